"""What every activation-aware scaling offers: the product of a weight with Sᵀ."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from srr_core.types import Statistics


class ScalingFactor(ABC):
    """One S, made from the statistics of one group of layers. It is never inverted."""

    @abstractmethod
    def times(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out columns"]:
        """Return matrix · Sᵀ. Rows of the result are in the space where errors are measured."""

    notes: tuple[str, ...] = ()
    condition: float | None = None
    """Condition number of SᵀS, at least; None where it is not known."""


class Scaling(ABC):
    """A way to make S from statistics."""

    per_sequence: ClassVar[bool] = False
    """Whether the statistic tells sequences apart, so that calibration must run them one at a time: models flatten
    batches to tokens, and mixtures reorder them, before their layers see them."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    @abstractmethod
    def factor(self, statistics: Statistics) -> ScalingFactor:
        """Return S for one group of layers, on the device of the statistics, in float32."""
