"""Uniform codes as bit planes, decoded and multiplied a tile of rows at a time."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.formats.grid import from_signed, scale_dtype
from srr_core.kernels.paths import (
    Buffers,
    Case,
    GridPath,
    add_product,
    as_bits,
    as_integer,
    compute_dtype,
    product_dtype,
    tile_rows,
)
from srr_core.kernels.planes import fits_planes, from_planes, group_first, group_last, plane_widths, to_planes
from srr_core.types import IntegerTensor, QuantizedTensor


class TiledPath(GridPath):
    """The path of every full-group uniform grid; the memory of the packed weight and one tile."""

    name = "tiled"
    serves_text = "2 to 8 bits, any group that divides the inputs, any dtype, any device, any batch"

    @classmethod
    def serves(cls, case: Case) -> bool:
        """Whether the codes are uniform, in full groups and in whole bytes."""
        grid = case.grid
        return grid is not None and grid.divides(case.in_features) and fits_planes(grid.num_bits, case.in_features)

    def prepare(self, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the planes, the scale and, for asymmetric groups, the zero points."""
        integer = as_integer(quantized)
        codes = group_last(self._unsigned(integer.codes), self.grid.group_size)
        planes = to_planes(codes, self.grid.num_bits)
        buffers = {f"plane_{index}": plane.contiguous() for index, plane in enumerate(planes)}
        buffers["scale_bits"] = as_bits(integer.scale.to(scale_dtype(self.grid)))
        if integer.zero_point is not None:
            buffers["zero_point"] = self._unsigned(integer.zero_point)
        return buffers

    def restore(self, buffers: Buffers) -> IntegerTensor:
        """Return the weight the buffers were prepared from."""
        codes = group_first(from_planes(self._planes(buffers), self.grid.num_bits), self.grid.group_size)
        zero_point = buffers.get("zero_point")
        return self.rebuilt(
            self._natural(codes), self._scale(buffers), None if zero_point is None else self._natural(zero_point)
        )

    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        reordered = group_last(x, self.grid.group_size).to(product_dtype(x))
        y = torch.empty((x.shape[0], self.shape[0]), dtype=reordered.dtype, device=x.device)
        for start, weight in self._tiles(buffers, reordered):
            torch.mm(reordered, weight.t(), out=y[:, start : start + weight.shape[0]])
        return y.to(x.dtype)

    def multiply_transposed(self, buffers: Buffers, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·W in the dtype of y."""
        wide = y.to(product_dtype(y))
        x = torch.zeros((y.shape[0], self.shape[1]), dtype=compute_dtype(y), device=y.device)
        for start, weight in self._tiles(buffers, wide):
            add_product(x, wide[:, start : start + weight.shape[0]], weight)
        return group_first(x, self.grid.group_size).to(y.dtype)

    def _tiles(self, buffers: Buffers, like: Tensor) -> Iterator[tuple[int, Tensor]]:
        rows = tile_rows(self.shape[1], like.device)
        for start in range(0, self.shape[0], rows):
            yield start, self._decode(buffers, slice(start, start + rows), like.dtype)

    def _decode(self, buffers: Buffers, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return some rows as numbers, columns in planar order."""
        if dtype == torch.bfloat16 and scale_dtype(self.grid) != dtype and buffers["plane_0"].device.type == "cpu":
            return self._decode(buffers, rows, torch.float32).to(dtype)  # a scale that is rounded first is off twice
        codes = from_planes([plane[rows] for plane in self._planes(buffers)], self.grid.num_bits)
        scale = self._scale(buffers)[rows].to(dtype)[:, None, :]
        grouped = (codes.shape[0], self.grid.group_size, -1)
        zero_point = buffers.get("zero_point")
        if zero_point is None:
            # Wraps to the signed code in uint8 arithmetic.
            weight = (codes.sub_(1 << (self.grid.num_bits - 1))).view(torch.int8).to(dtype)
        else:
            weight = codes.to(dtype)
            weight.view(grouped).sub_(zero_point[rows].to(dtype)[:, None, :])
        weight.view(grouped).mul_(scale)
        return weight

    def _planes(self, buffers: Buffers) -> list[Tensor]:
        return [buffers[f"plane_{index}"] for index in range(len(plane_widths(self.grid.num_bits)))]

    def _scale(self, buffers: Buffers) -> Tensor:
        return buffers["scale_bits"].view(scale_dtype(self.grid))

    def _unsigned(self, natural: Tensor) -> Tensor:
        offset = (1 << (self.grid.num_bits - 1)) if self.grid.is_symmetric else 0
        return (natural.to(torch.int16) + offset).to(torch.uint8)

    def _natural(self, unsigned: Tensor) -> Tensor:
        offset = 1 << (self.grid.num_bits - 1)
        return from_signed((unsigned.to(torch.int16) - offset).to(torch.int8), self.grid)
