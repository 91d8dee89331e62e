"""torch's int4 kernel for CPUs."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.formats.grid import scale_dtype
from srr_core.kernels.paths import Buffers, Case, GridPath, as_bits, as_integer
from srr_core.types import IntegerTensor, QuantizedTensor

_BITS = 4
_GROUPS = (32, 64, 128, 256)
_ROWS_MULTIPLE = 16
_OFFSET = 8
_UNIT_ROWS = 256
_KERNEL = ("_convert_weight_to_int4pack_for_cpu", "_weight_int4pack_mm_for_cpu")
"""torch's own names, which it may change; without them the next path of the table serves."""


class Int4PackPath(GridPath):
    """torch's int4 kernel for CPUs: 4-bit codes and bf16 scales, 0.28 of the time of a dense product at batch 1."""

    name = "int4pack"
    serves_text = "MXINT of 4 bits (2 and 3 when widened), block 32, bfloat16, cpu, any batch; rows a multiple of 16"

    @classmethod
    def serves(cls, case: Case) -> bool:
        """Whether the kernel holds these codes exactly and does so fast."""
        grid = case.grid
        is_there = all(hasattr(torch, name) for name in _KERNEL)
        if grid is None or not is_there or case.device != "cpu" or case.dtype != torch.bfloat16:
            return False
        is_exact = grid.is_symmetric and scale_dtype(grid) == torch.bfloat16
        has_width = grid.num_bits == _BITS or (case.widen and grid.num_bits < _BITS)
        fits = grid.group_size in _GROUPS and grid.divides(case.in_features)
        return is_exact and has_width and fits and case.out_features % _ROWS_MULTIPLE == 0

    def prepare(self, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the codes in the kernel's order, and its pairs of scale and zero."""
        integer = as_integer(quantized)
        packed = torch._convert_weight_to_int4pack_for_cpu(integer.codes.cpu().to(torch.int32) + _OFFSET, 1)  # noqa: SLF001  # torch names its public int4 kernel so
        pairs = torch.zeros((integer.scale.shape[1], self.shape[0], 2), dtype=torch.bfloat16)
        pairs[:, :, 0] = integer.scale.t()
        return {"int4_codes": packed, "scale_bits": as_bits(pairs)}

    def restore(self, buffers: Buffers) -> IntegerTensor:
        """Return the weight, read out of the kernel by multiplying unit vectors with unit scales."""
        buffers = {name: buffer.cpu() for name, buffer in buffers.items()}
        units = torch.zeros_like(self._pairs(buffers))
        units[:, :, 0] = 1
        columns = [columns.t() for _, columns in self._columns(buffers, units)]
        codes = torch.cat(columns, dim=1).to(torch.int8)
        return self.rebuilt(codes, self._pairs(buffers)[:, :, 0].t().contiguous(), None)

    def multiply(self, buffers: Buffers, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Return x·Wᵀ in bfloat16."""
        return self._kernel(x.contiguous(), buffers, self._pairs(buffers))

    def multiply_transposed(self, buffers: Buffers, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·W in the dtype of y; columns are read out by unit vectors, exactly, some at a time."""
        x = torch.empty((y.shape[0], self.shape[1]), dtype=torch.float32)
        wide = y.to(torch.float32)
        for start, columns in self._columns(buffers, self._pairs(buffers)):
            torch.mm(wide, columns.t().to(torch.float32), out=x[:, start : start + columns.shape[0]])
        return x.to(y.dtype)

    def _columns(self, buffers: Buffers, pairs: Tensor) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.shape[1], _UNIT_ROWS):
            count = min(_UNIT_ROWS, self.shape[1] - start)
            units = torch.zeros((count, self.shape[1]), dtype=torch.bfloat16)
            units[torch.arange(count), torch.arange(start, start + count)] = 1
            yield start, self._kernel(units, buffers, pairs)

    def _kernel(self, x: Tensor, buffers: Buffers, pairs: Tensor) -> Tensor:
        return torch._weight_int4pack_mm_for_cpu(x, buffers["int4_codes"], self.grid.group_size, pairs)  # noqa: SLF001  # as above

    def _pairs(self, buffers: Buffers) -> Tensor:
        return buffers["scale_bits"].view(torch.bfloat16)
