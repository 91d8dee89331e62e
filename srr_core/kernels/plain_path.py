"""The path that is always correct: the tensors of the file, decoded some rows at a time by their codec."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.kernels.paths import (
    Buffers,
    Case,
    MatmulPath,
    add_product,
    as_bits,
    compute_dtype,
    product_dtype,
    tile_rows,
)
from srr_core.types import QuantizedTensor

_PREFIX = "stored_"


class PlainPath(MatmulPath):
    """Serves every codec: short last groups, NormalFloat, lattice codes."""

    name = "plain"
    serves_text = "every format, any dtype, any device, any batch"

    @classmethod
    def serves(cls, case: Case) -> bool:  # noqa: ARG003  # the last row of the table takes every case
        """Always."""
        return True

    def prepare(self, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of the file, floating-point ones as bit patterns."""
        tensors = self.codec.pack("the layer", quantized)
        return {
            f"{_PREFIX}{suffix}": as_bits(tensor) if tensor.is_floating_point() else tensor.contiguous()
            for suffix, tensor in tensors.items()
        }

    def restore(self, buffers: Buffers) -> QuantizedTensor:
        """Return the weight the buffers were prepared from."""
        return self.codec.rebuild(self.shape, self._tensors(buffers))

    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        wide = x.to(product_dtype(x))
        y = torch.empty((x.shape[0], self.shape[0]), dtype=wide.dtype, device=x.device)
        for start, weight in self._tiles(buffers, wide):
            torch.mm(wide, weight.t(), out=y[:, start : start + weight.shape[0]])
        return y.to(x.dtype)

    def multiply_transposed(self, buffers: Buffers, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·W in the dtype of y."""
        wide = y.to(product_dtype(y))
        x = torch.zeros((y.shape[0], self.shape[1]), dtype=compute_dtype(y), device=y.device)
        for start, weight in self._tiles(buffers, wide):
            add_product(x, wide[:, start : start + weight.shape[0]], weight)
        return x.to(y.dtype)

    def _tiles(self, buffers: Buffers, like: Tensor) -> Iterator[tuple[int, Tensor]]:
        tensors = self._tensors(buffers)
        step = self.codec.rows_multiple(self.shape)
        rows = max(step, tile_rows(self.shape[1], like.device) // step * step)
        for start in range(0, self.shape[0], rows):
            stop = min(start + rows, self.shape[0])
            yield start, self.codec.decode_rows(self.shape, tensors, start, stop).to(like.dtype)

    def _tensors(self, buffers: Buffers) -> dict[str, Tensor]:
        declared = self.codec.declared(self.shape)
        return {suffix: buffers[f"{_PREFIX}{suffix}"].view(entry.dtype) for suffix, entry in declared.items()}
