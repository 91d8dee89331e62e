"""What a uniform grid looks like in a file: bits, group, sign and the dtype that holds its scale."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from srr_core.errors import ExportError
from srr_core.recipe import GPTQSpec, IntegerSpec, LearnedSpec, MXIntSpec, QuantizerSpec
from srr_core.types import IntegerTensor, QuantizedTensor


@dataclass(frozen=True)
class IntegerGrid:
    """The grid of an `IntegerTensor`, as its specification fixes it."""

    spec: QuantizerSpec
    num_bits: int
    group_size: int
    is_symmetric: bool
    scale_dtype: torch.dtype
    """bf16 for MXINT (every power of two of fp32 fits), fp16 for integer groups."""

    def num_groups(self, in_features: int) -> int:
        """Return the groups of one row; the last one may be short."""
        return -(-in_features // self.group_size)

    def divides(self, in_features: int) -> bool:
        """Whether every group is full."""
        return in_features % self.group_size == 0

    def signed(self, unsigned_or_signed: Int[Tensor, "rows columns"]) -> Int[Tensor, "rows columns"]:
        """Return codes or zero points in -2**(b-1) .. 2**(b-1) - 1, int8."""
        offset = 0 if self.is_symmetric else 1 << (self.num_bits - 1)
        return (unsigned_or_signed.to(torch.int16) - offset).to(torch.int8)

    def natural(self, signed: Int[Tensor, "rows columns"]) -> Int[Tensor, "rows columns"]:
        """Return signed codes or zero points as `IntegerTensor` holds them: the inverse of `signed`."""
        if self.is_symmetric:
            return signed
        unsigned = signed.to(torch.int16) + (1 << (self.num_bits - 1))
        return unsigned if self.num_bits == 8 else unsigned.to(torch.int8)


def integer_grid(spec: QuantizerSpec) -> IntegerGrid | None:
    """Return the uniform grid of a specification, or None for NormalFloat and lattice codes."""
    grid = spec.grid if isinstance(spec, GPTQSpec | LearnedSpec) else spec
    if isinstance(grid, MXIntSpec):
        return IntegerGrid(spec, grid.num_bits, grid.block_size, True, torch.bfloat16)
    if isinstance(grid, IntegerSpec):
        return IntegerGrid(spec, grid.num_bits, grid.group_size, grid.symmetric, torch.float16)
    return None


def checked_integer(module_name: str, quantized: QuantizedTensor, grid: IntegerGrid) -> IntegerTensor:
    """Return the codes as integers on this grid, after checking that a file would hold them exactly.

    Raises:
        ExportError: other codes, another grid, or a scale the stored dtype would round.
    """
    if not isinstance(quantized, IntegerTensor):
        raise ExportError(f"{module_name} holds {quantized.layout} codes, the layout needs integer codes")
    found = (quantized.num_bits, quantized.group_size, quantized.zero_point is None)
    wanted = (grid.num_bits, grid.group_size, grid.is_symmetric)
    if found != wanted:
        raise ExportError(f"{module_name} is on the grid (bits, group, symmetric) {found}, the recipe says {wanted}")
    scale = quantized.scale.to(torch.float32)
    if not torch.equal(scale.to(grid.scale_dtype).to(torch.float32), scale):
        raise ExportError(f"{module_name} has scales that {grid.scale_dtype} would round")
    return quantized
