"""Codes of a uniform grid as files hold them: signs, dtypes, and whether a file would hold them exactly."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor

from srr_core.errors import ExportError
from srr_core.recipe import UniformGrid
from srr_core.recipe.uniform_grid import ScaleDtype
from srr_core.types import IntegerTensor, QuantizedTensor

_DTYPES: Mapping[ScaleDtype, torch.dtype] = MappingProxyType({"bfloat16": torch.bfloat16, "float16": torch.float16})


def scale_dtype(grid: UniformGrid) -> torch.dtype:
    """Return the dtype that holds every scale of a grid."""
    return _DTYPES[grid.scale_dtype]


def to_signed(codes: Int[Tensor, "rows columns"], grid: UniformGrid) -> Int[Tensor, "rows columns"]:
    """Return codes or zero points in -2**(b-1) .. 2**(b-1) - 1, int8."""
    offset = 0 if grid.is_symmetric else 1 << (grid.num_bits - 1)
    return (codes.to(torch.int16) - offset).to(torch.int8)


def from_signed(signed: Int[Tensor, "rows columns"], grid: UniformGrid) -> Int[Tensor, "rows columns"]:
    """Return signed codes or zero points as `IntegerTensor` holds them: the inverse of `to_signed`."""
    if grid.is_symmetric:
        return signed
    unsigned = signed.to(torch.int16) + (1 << (grid.num_bits - 1))
    return unsigned if grid.num_bits == 8 else unsigned.to(torch.int8)


def checked_integer(module_name: str, quantized: QuantizedTensor, grid: UniformGrid) -> IntegerTensor:
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
    if not torch.equal(scale.to(scale_dtype(grid)).to(torch.float32), scale):
        raise ExportError(f"{module_name} has scales that {grid.scale_dtype} would round")
    return quantized
