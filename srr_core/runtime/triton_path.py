"""The tiled path's buffers multiplied on a GPU by the Triton kernel; unmeasured on hardware so far."""

from importlib.util import find_spec

from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from srr_core.runtime.paths import Buffers, Case
from srr_core.runtime.planes import group_last
from srr_core.runtime.tiled_path import TiledPath


class TritonPath(TiledPath):
    """Serves what the tiled path serves, on a CUDA device where triton is installed."""

    name = "triton"
    fuses_low_rank = True
    serves_text = (
        "as tiled, cuda, where triton is installed, L·R in its pass; right in the interpreter, unmeasured on a GPU"
    )

    @classmethod
    @override
    def serves(cls, case: Case) -> bool:
        """Whether the layer is on a GPU and triton is there."""
        return case.device == "cuda" and super().serves(case) and find_spec("triton") is not None

    @override
    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in the dtype of x."""
        return self._launch(buffers, x)

    @override
    def multiply_corrected(
        self,
        buffers: Buffers,
        x: Float[Tensor, "rows in"],
        shared: Float[Tensor, "rows rank"],
        left: Float[Tensor, "out rank"],
    ) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ + shared·leftᵀ in the dtype of x; `shared` and `left` are of one dtype."""
        return self._launch(buffers, x, shared=shared, left=left)

    def _launch(self, buffers: Buffers, x: Tensor, **low_rank: Tensor) -> Tensor:
        from srr_core.runtime.triton_kernel import planar_multiply  # noqa: PLC0415  # triton comes with CUDA builds only

        return planar_multiply(
            group_last(x, self.grid.group_size),
            self._planes(buffers),
            self._scale(buffers),
            buffers.get("zero_point"),
            num_bits=self.grid.num_bits,
            **low_rank,
        )
