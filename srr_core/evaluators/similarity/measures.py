"""How near the vectors of a compressed model are to those of its source."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.evaluators.glue.metrics import spearman, standard_error

NEIGHBOURS = 10
"""How many of the nearest sentences are compared; what a search shows on its first page."""
Vectors = Float[Tensor, "sentences width"]


@dataclass(frozen=True)
class Fidelity:
    """Cosines between the two vectors of the same sentence."""

    mean: float
    standard_error: float
    minimum: float
    first_percentile: float


@dataclass(frozen=True)
class RetrievalAgreement:
    """Whether the two models find the same sentences for each other."""

    top_overlap: float
    """Share of the source's nearest sentences that are among as many of the compressed model's."""
    standard_error: float
    first_agreement: float
    """Share of sentences whose nearest other one is the same."""
    neighbours: int


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of cosines with what people say, of both models."""

    source: float
    compressed: float
    standard_error: float
    """Of the difference, over the same bootstrap samples of pairs."""
    pairs: int


def fidelity(source: Vectors, compressed: Vectors) -> Fidelity:
    """Return the cosines of vectors of length 1, sentence by sentence."""
    cosines = (source.double() * compressed.double()).sum(-1)
    count = len(cosines)
    return Fidelity(
        mean=float(cosines.mean()),
        standard_error=float(cosines.std()) / count**0.5 if count > 1 else float("inf"),
        minimum=float(cosines.min()),
        first_percentile=float(torch.quantile(cosines, 0.01)),
    )


def retrieval_agreement(source: Vectors, compressed: Vectors) -> RetrievalAgreement:
    """Let every sentence search for the nearest others, and compare what both models find.

    Equal cosines are ordered by position, so equal vectors give equal lists.
    """
    count = min(NEIGHBOURS, len(source) - 1)
    first, second = _nearest(source, count), _nearest(compressed, count)
    shared = (first.unsqueeze(-1) == second.unsqueeze(-2)).any(-1).double().mean(-1)
    return RetrievalAgreement(
        top_overlap=float(shared.mean()),
        standard_error=float(shared.std()) / len(shared) ** 0.5 if len(shared) > 1 else float("inf"),
        first_agreement=float((first[:, 0] == second[:, 0]).double().mean()),
        neighbours=count,
    )


def human_correlation(
    source: tuple[Vectors, Vectors], compressed: tuple[Vectors, Vectors], scores: Float[np.ndarray, "pairs"]
) -> Correlation:
    """Return how the cosines of pairs order as people's scores do.

    Args:
        source: Vectors of the first and of the second sentences, by the source.
        compressed: The same by the compressed model.
    """
    before, after = _cosines(source), _cosines(compressed)
    return Correlation(
        source=spearman(before, scores),
        compressed=spearman(after, scores),
        standard_error=standard_error(spearman, after, scores, other=before),
        pairs=len(scores),
    )


def _cosines(pairs: tuple[Vectors, Vectors]) -> Float[np.ndarray, "pairs"]:
    first, second = pairs
    cosines: np.ndarray = (first.double() * second.double()).sum(-1).numpy()
    return cosines


def _nearest(vectors: Vectors, count: int) -> Tensor:
    cosines = vectors.double() @ vectors.double().T
    cosines.fill_diagonal_(-torch.inf)
    return cosines.argsort(dim=-1, descending=True, stable=True)[:, :count]
