"""The tiled path with its decoding and small products in C: same buffers, same results, a CPU's full speed."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from srr_core.kernels.native import NativeWeight, native_library
from srr_core.kernels.paths import Buffers, Case
from srr_core.kernels.planes import group_last
from srr_core.kernels.tiled_path import TiledPath

_FUSED_ROWS = 4
"""Up to this batch a row is multiplied as it is decoded; above, decoding a tile for a matrix product is faster."""


class NativePath(TiledPath):
    """Serves what the tiled path serves on a CPU, where a C compiler is found and was asked for."""

    name = "native"
    serves_text = "as tiled, cpu, float32 products; when loaded with native=True and a C compiler is on PATH"

    @classmethod
    @override
    def serves(cls, case: Case) -> bool:
        """Whether it was asked for and can be compiled here."""
        if not case.native or case.device != "cpu" or case.dtype == torch.float64:
            return False
        return super().serves(case) and native_library() is not None

    @override
    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        if x.shape[0] > _FUSED_ROWS or x.shape[0] == 0:
            return super().multiply(buffers, x)
        reordered = group_last(x, self.grid.group_size).to(torch.float32)
        return self._weight(buffers, slice(None)).multiply(reordered).to(x.dtype)

    @override
    def _decode(self, buffers: Buffers, rows: slice, dtype: torch.dtype) -> Tensor:
        weight = self._weight(buffers, rows)
        return weight.decode(0, weight.rows).to(dtype)

    def _weight(self, buffers: Buffers, rows: slice) -> NativeWeight:
        library = native_library()
        if library is None:
            raise RuntimeError("the native path was chosen without its library")
        zero_point = buffers.get("zero_point")
        return NativeWeight(
            library,
            [plane[rows] for plane in self._planes(buffers)],
            self._scale(buffers)[rows],
            None if zero_point is None else zero_point[rows],
            self.grid.num_bits,
        )
