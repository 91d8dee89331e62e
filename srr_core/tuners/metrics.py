"""The scores of GLUE over predictions and truths, in float64."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Num
from torch import Tensor

Score = Callable[[Tensor, Tensor], float]


def accuracy(predicted: Num[Tensor, " n"], true: Num[Tensor, " n"]) -> float:
    """Return the share of equal numbers."""
    return float((predicted == true).double().mean())


def matthews(predicted: Num[Tensor, " n"], true: Num[Tensor, " n"]) -> float:
    """Return the correlation of classes, of two or more; 0 where one side is constant.

    Source: Gorodkin (2004), the R_K statistic; with two classes it is Matthews' coefficient.
    """
    classes = torch.unique(torch.cat([predicted, true]))
    first = (predicted[:, None] == classes).double()
    second = (true[:, None] == classes).double()
    return _ratio(_covariance(first, second), _covariance(first, first) * _covariance(second, second))


def pearson(predicted: Num[Tensor, " n"], true: Num[Tensor, " n"]) -> float:
    """Return the linear correlation; 0 where one side is constant."""
    first, second = predicted.double()[:, None], true.double()[:, None]
    return _ratio(_covariance(first, second), _covariance(first, first) * _covariance(second, second))


def spearman(predicted: Num[Tensor, " n"], true: Num[Tensor, " n"]) -> float:
    """Return the correlation of ranks, ties sharing their mean rank; 0 where one side is constant."""
    return pearson(_ranks(predicted), _ranks(true))


def pearson_spearman(predicted: Num[Tensor, " n"], true: Num[Tensor, " n"]) -> float:
    """Return the mean of both correlations, as STS-B is reported by the SRR authors."""
    return (pearson(predicted, true) + spearman(predicted, true)) / 2


SCORES: Mapping[str, Score] = MappingProxyType(
    {
        "accuracy": accuracy,
        "matthews": matthews,
        "pearson": pearson,
        "spearman": spearman,
        "pearson-spearman": pearson_spearman,
    }
)


def _covariance(first: Tensor, second: Tensor) -> float:
    return float(((first - first.mean(0)) * (second - second.mean(0))).sum())


def _ratio(covariance: float, variances: float) -> float:
    return covariance / variances**0.5 if variances > 0 else 0.0


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, sorted=True, return_inverse=True, return_counts=True)
    mean_ranks: Tensor = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return mean_ranks[inverse]
