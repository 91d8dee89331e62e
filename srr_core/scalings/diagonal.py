"""Diagonal S: one weight per input."""

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.scalings.base import Scaling, ScalingFactor
from srr_core.types import Statistics

LQER_FLOOR = 1e-4
"""Clamp of the LQER reference (spec 2.2); without it one silent input would decide the normalization."""


class DiagonalFactor(ScalingFactor):
    """S = diag(d)."""

    def __init__(self, diagonal: Float[Tensor, " in"]) -> None:
        self.diagonal = diagonal

    def times(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out columns"]:
        """Return the matrix with each input column multiplied by its weight."""
        return matrix * self.diagonal.to(matrix)


class DiagonalScaling(Scaling):
    """Root mean square of each input. Source: QERA-approx, arXiv:2410.06040."""

    def factor(self, statistics: Statistics) -> ScalingFactor:
        """Return diag(sqrt(mean x²))."""
        return DiagonalFactor(statistics.autocorrelation.diagonal().clamp_min(0).sqrt())


class LQERScaling(Scaling):
    """Largest mean magnitude over calibration sequences, normalized by the geometric middle of its range.

    The maximum is over sequences, where the reference takes it over batches: so the result does not depend
    on the batch size. Source: LQER, arXiv:2402.02446.
    """

    per_sequence = True

    def factor(self, statistics: Statistics) -> ScalingFactor:
        """Return diag(m) with m floored at 1e-4 and divided by sqrt(min m · max m)."""
        magnitude = statistics.largest_mean_magnitude.clamp_min(LQER_FLOOR)
        return DiagonalFactor(magnitude / torch.sqrt(magnitude.min() * magnitude.max()))
