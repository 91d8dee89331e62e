"""The tiled path's buffers decoded on a GPU by Triton kernels; unmeasured on hardware so far."""

from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from srr_core.kernels.paths import Buffers, Case
from srr_core.kernels.planes import group_last
from srr_core.kernels.tiled_path import TiledPath


class TritonPath(TiledPath):
    """Serves what the tiled path serves, on a CUDA device where triton is installed."""

    name = "triton"
    fuses_low_rank = True
    serves_text = (
        "as tiled where 8 divides the inputs, cuda, where triton is installed; up to 32 rows of 16 bits in one pass "
        "with L·R, others by decoding tiles; right in the interpreter, unmeasured on a GPU"
    )

    @classmethod
    @override
    def serves(cls, case: Case) -> bool:
        """Whether the layer is on a GPU, in the form the kernels read, and triton is there."""
        has_kernel = case.device == "cuda" and find_spec("triton") is not None
        return has_kernel and case.in_features % 8 == 0 and super().serves(case)

    @override
    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        return self._launch(buffers, x) if self._is_few(x) else super().multiply(buffers, x)

    @override
    def multiply_corrected(
        self,
        buffers: Buffers,
        x: Float[Tensor, "rows in"],
        shared: Float[Tensor, "rows rank"],
        left: Float[Tensor, "out rank"],
    ) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ + shared·leftᵀ in the dtype of x; `shared` and `left` are of one dtype."""
        if self._is_few(x):
            return self._launch(buffers, x, shared=shared, left=left)
        if shared.dtype != x.dtype:
            return super().multiply_corrected(buffers, x, shared, left)
        return self.multiply(buffers, x).addmm_(shared, left.t())

    @override
    def _decode(self, buffers: Buffers, rows: slice, dtype: torch.dtype) -> Tensor:
        from srr_core.kernels.triton_kernel import planar_decode  # noqa: PLC0415  # triton comes with CUDA builds only

        zero_point = buffers.get("zero_point")
        return planar_decode(
            [plane[rows] for plane in self._planes(buffers)],
            self._scale(buffers)[rows],
            None if zero_point is None else zero_point[rows],
            num_bits=self.grid.num_bits,
            dtype=dtype,
        )

    def _is_few(self, x: Tensor) -> bool:
        from srr_core.kernels.triton_kernel import MOST_ROWS  # noqa: PLC0415  # as above

        # GPUs multiply float32 exactly without their matrix units, for which a library has better kernels.
        return x.element_size() == 2 and x.shape[0] <= MOST_ROWS

    def _launch(self, buffers: Buffers, x: Tensor, **low_rank: Tensor) -> Tensor:
        from srr_core.kernels.triton_kernel import planar_multiply  # noqa: PLC0415  # as above

        return planar_multiply(
            group_last(x, self.grid.group_size),
            self._planes(buffers),
            self._scale(buffers),
            buffers.get("zero_point"),
            num_bits=self.grid.num_bits,
            **low_rank,
        )
