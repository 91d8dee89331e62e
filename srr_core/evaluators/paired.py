"""The difference of two models on the same samples, with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Difference:
    """A mean over units, such as tokens or words, and how far chance may have moved it."""

    mean: float
    standard_error: float
    """Over samples, because the units of one sample are correlated. Infinite with fewer than two samples."""
    samples: int

    @property
    def is_significant(self) -> bool:
        """Whether the difference is at least two standard errors from nothing."""
        return abs(self.mean) >= 2 * self.standard_error


def paired_difference(after: Sequence[float], before: Sequence[float], units: Sequence[int]) -> Difference:
    """Return `(sum of after - sum of before) / sum of units` over samples that both models have seen.

    The standard error is that of a ratio of sums, linearized: samples may differ in size, as pages do in words.
    With samples of one size it is the standard error of the mean.

    Args:
        after: One sum per sample, for instance the negative log-likelihood of a page, in nats.
        before: The same of the other model, in the same order.
        units: How many tokens or words each sample counts for.
    Raises:
        ValueError: the lengths differ, or there is no sample.
    Source: Cochran, Sampling Techniques (1977), 6.4.
    """
    if not len(after) == len(before) == len(units) or not units:
        raise ValueError(f"{len(after)}, {len(before)} and {len(units)} samples cannot be paired")
    difference = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    weight = torch.tensor(units, dtype=torch.float64)
    total = float(weight.sum())
    mean = float(difference.sum()) / total
    count = len(units)
    if count < 2:
        return Difference(mean, math.inf, count)
    residual = difference - mean * weight
    variance = count / (count - 1) * float(residual.square().sum())
    return Difference(mean, math.sqrt(variance) / total, count)
