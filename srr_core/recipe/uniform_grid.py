"""What a uniform grid is, whatever rounds to it: the one value that files, kernels and runtimes ask a quantizer for."""

from typing import Literal, NamedTuple

ScaleDtype = Literal["bfloat16", "float16"]


class UniformGrid(NamedTuple):
    """Integer codes with one step per group along the inputs: value = (code - zero point) * scale."""

    num_bits: int
    group_size: int
    is_symmetric: bool
    """Whether codes are signed and no zero point is stored."""
    scale_dtype: ScaleDtype
    """What holds every scale exactly."""
    is_power_of_two: bool = False
    """Whether every scale is a power of two; `bfloat16` holds those of float32."""
    exponent_window: int | None = None
    """How far a scale may lie below the largest of its 256 inputs, in powers of two; None: as far as it likes."""
    num_levels: int | None = None
    """Codes in use, where they are fewer than the bits hold."""

    @property
    def lowest(self) -> int:
        """The smallest code: 0, or half of the codes below zero where they are signed."""
        return -(self._levels // 2) if self.is_symmetric else 0

    @property
    def highest(self) -> int:
        """The largest code."""
        return self.lowest + self._levels - 1

    @property
    def _levels(self) -> int:
        return self.num_levels or 2**self.num_bits

    def num_groups(self, in_features: int) -> int:
        """Return the groups of one row; the last one may be short."""
        return -(-in_features // self.group_size)

    def divides(self, in_features: int) -> bool:
        """Whether every group is full."""
        return in_features % self.group_size == 0
