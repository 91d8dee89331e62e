"""Means over windows of tokens, and how far chance may have moved them."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class SampledMean(NamedTuple):
    """A mean over all tokens, and its standard error over windows, because tokens of one window are correlated."""

    mean: float
    standard_error: float | None
    """None with a single window, of which nothing can be said."""


def mean_of_windows(values: Float[Tensor, "windows tokens"]) -> SampledMean:
    """Return the mean of one value per token; every window has as many tokens."""
    wide = values.double()
    count = len(wide)
    error = float(wide.mean(1).std(correction=1)) / math.sqrt(count) if count > 1 else None
    return SampledMean(float(wide.mean()), error)
