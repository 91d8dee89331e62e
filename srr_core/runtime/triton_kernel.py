# compile-time constants of a kernel are upper case, as triton has it
"""The GPU kernel: bit planes decoded in registers, multiplied, and L·R accumulated in the same pass.

Imported only where triton is installed. It is checked against the dense product in triton's interpreter; its speed
on a GPU is unmeasured. Columns of x are in planar order (see planes.py), so that scales are read contiguously.
"""

from typing import Any

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]  # comes with CUDA builds of torch
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]  # as above
from torch import Tensor

from srr_core.runtime.planes import plane_widths

BLOCK_ROWS = 16
"""Of x; tl.dot takes no fewer."""
BLOCK_OUT = 64
BLOCK_IN = 64


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # without triton it has no type
def _kernel(  # type: ignore[no-untyped-def]  # triton compiles it; its arguments are pointers
    x, plane_0, plane_1, plane_2, scale, zero_point, shared, left, y, rows, outputs, inputs, groups, rank,
    WIDTH_0: tl.constexpr, WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, OFFSET: tl.constexpr,
    HAS_ZERO: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    out = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, inputs, BLOCK_K):
        column = start + tl.arange(0, BLOCK_K)
        valid = (out[:, None] < outputs) & (column[None, :] < inputs)
        run = inputs * WIDTH_0 // 8
        address = out[:, None] * run + (column % run)[None, :]
        code = (tl.load(plane_0 + address, mask=valid, other=0).to(tl.int32) >> (column // run * WIDTH_0)[None, :]) & (
            (1 << WIDTH_0) - 1
        )
        if WIDTH_1 > 0:
            run = inputs * WIDTH_1 // 8
            address = out[:, None] * run + (column % run)[None, :]
            higher = tl.load(plane_1 + address, mask=valid, other=0).to(tl.int32) >> (column // run * WIDTH_1)[None, :]
            code += (higher & ((1 << WIDTH_1) - 1)) << WIDTH_0
        if WIDTH_2 > 0:
            run = inputs * WIDTH_2 // 8
            address = out[:, None] * run + (column % run)[None, :]
            higher = tl.load(plane_2 + address, mask=valid, other=0).to(tl.int32) >> (column // run * WIDTH_2)[None, :]
            code += (higher & ((1 << WIDTH_2) - 1)) << (WIDTH_0 + WIDTH_1)
        group = out[:, None] * groups + (column % groups)[None, :]
        if HAS_ZERO:
            code -= tl.load(zero_point + group, mask=valid, other=0).to(tl.int32)
        else:
            code -= OFFSET
        weight = code.to(tl.float32) * tl.load(scale + group, mask=valid, other=0.0).to(tl.float32)
        sample = tl.load(
            x + row[:, None] * inputs + column[None, :],
            mask=(row[:, None] < rows) & (column[None, :] < inputs),
            other=0.0,
        )
        total += tl.dot(sample, tl.trans(weight.to(sample.dtype)), input_precision="ieee")
    for start in range(0, rank, BLOCK_K):
        index = start + tl.arange(0, BLOCK_K)
        used = index[None, :] < rank
        reduced = tl.load(shared + row[:, None] * rank + index[None, :], mask=(row[:, None] < rows) & used, other=0.0)
        factor = tl.load(left + out[:, None] * rank + index[None, :], mask=(out[:, None] < outputs) & used, other=0.0)
        total += tl.dot(reduced, tl.trans(factor), input_precision="ieee")
    place = y + row[:, None] * outputs + out[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=(row[:, None] < rows) & (out[None, :] < outputs))


def planar_multiply(
    x: Tensor,
    planes: list[Tensor],
    scale: Tensor,
    zero_point: Tensor | None,
    *,
    num_bits: int,
    shared: Tensor | None = None,
    left: Tensor | None = None,
) -> Tensor:
    """Return x·Qᵀ, plus shared·leftᵀ where given, in the dtype of x.

    Args:
        x: [rows, in], columns in planar order, on the device of the planes.
        scale: [out, groups] of any floating dtype.
        shared: x·Rᵀ [rows, rank].
        left: L [out, rank], dtype of `shared`.
    """
    x = x.contiguous()
    outputs = planes[0].shape[0]
    y = torch.empty((x.shape[0], outputs), dtype=x.dtype, device=x.device)
    widths = (*plane_widths(num_bits), 0, 0)[:3]
    padded = [*planes, planes[0], planes[0]][:3]
    rank = 0 if left is None else left.shape[1]
    grid = (triton.cdiv(x.shape[0], BLOCK_ROWS), triton.cdiv(outputs, BLOCK_OUT))
    arguments: list[Any] = [x, *padded, scale, scale if zero_point is None else zero_point]
    arguments += [x if shared is None else shared.contiguous(), x if left is None else left.contiguous(), y]
    _kernel[grid](
        *arguments, x.shape[0], outputs, x.shape[1], scale.shape[1], rank,
        WIDTH_0=widths[0], WIDTH_1=widths[1], WIDTH_2=widths[2], OFFSET=1 << (num_bits - 1),
        HAS_ZERO=zero_point is not None, BLOCK_M=BLOCK_ROWS, BLOCK_N=BLOCK_OUT, BLOCK_K=BLOCK_IN,
    )  # fmt: skip
    return y
