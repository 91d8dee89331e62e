"""What the specifications of quantizers share: what everybody may ask, and what follows from a grid."""

from abc import ABC, abstractmethod
from typing import ClassVar

from srr_core.recipe.base import Spec
from srr_core.recipe.uniform_grid import UniformGrid

FLOAT16_BITS = 16


class QuantizerBase(Spec, ABC):
    """What everybody may ask of a quantizer's specification without knowing which one it is.

    A specification also has `num_bits`, the bits of one code, and `bits_per_weight`.
    """

    has_feedback: ClassVar[bool] = False
    """Whether rounding one weight changes others through the statistics of the inputs, which costs a product more."""
    group_field: ClassVar[str | None] = None
    """The field that says how many weights share a scale; None where all of a layer do."""

    @property
    @abstractmethod
    def uniform_grid(self) -> UniformGrid | None:
        """The uniform grid the codes lie on, which stock formats and fast kernels hold; None for other codes."""

    @property
    @abstractmethod
    def bits_per_weight(self) -> float:
        """Bits of the format itself, scales counted."""

    @property
    def grid_path(self) -> tuple[str, ...]:
        """The fields that lead to the options of the grid; none where they are fields of this specification."""
        return ()

    @property
    def grid_options(self) -> "QuantizerBase":
        """The specification that holds the options of the grid."""
        return self


class AffineSpec(QuantizerBase, ABC):
    """A grid whose step, and zero point where it has one, are fitted to each group: what follows from the grid."""

    @property
    @abstractmethod
    def uniform_grid(self) -> UniformGrid:
        """With a float16 scale."""

    @property
    def searches(self) -> bool:
        """Whether the range of a group shrinks while that lowers its error."""
        return False

    @property
    def bits_per_weight(self) -> float:
        """Bits of the format itself: codes, scales and, when asymmetric, zero points."""
        grid = self.uniform_grid
        zero_point_bits = 0 if grid.is_symmetric else grid.num_bits
        return grid.num_bits + (FLOAT16_BITS + zero_point_bits) / grid.group_size
