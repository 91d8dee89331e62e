# compile-time constants of a kernel are upper case, as triton has it
"""The GPU kernels: bit planes decoded in registers, and either multiplied at once with L·R, or written out as numbers.

Imported only where triton is installed. They are checked against the dense product in triton's interpreter and
compiled for real targets; their speed on a GPU is unmeasured. Columns are in planar order (see planes.py), so that
scales are read contiguously. A row is cut into eighths: code `e * eighth + b` of a plane of w bits is in byte
`(e % w) * eighth + b`, from bit `e // w * w` on, so every byte of the lowest plane is loaded once and gives 8/w codes.
"""

from typing import Any

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]  # comes with CUDA builds of torch
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]  # as above
from torch import Tensor

from srr_core.kernels.planes import plane_widths

FEWEST_ROWS = 16
"""Of x in one program; tl.dot takes no fewer."""
MOST_ROWS = 32
"""Of x in one call of the product; for more, decoding once and a library's product take less arithmetic."""
BLOCK_OUT = 32
BLOCK_BYTES = 32
LAUNCH = {"num_warps": 4, "num_stages": 2}
"""With these blocks a program takes at most 48 KB of shared memory and 100 registers a thread on sm_80 and sm_90."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # without triton it has no type
def _higher(plane, line, byte, valid, eighth, EIGHTH: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]  # triton compiles it
    part = EIGHTH % WIDTH
    found = tl.load(plane + line * (eighth * WIDTH) + (part * eighth + byte), mask=valid, other=0).to(tl.int32)
    return (found >> (EIGHTH // WIDTH * WIDTH)) & ((1 << WIDTH) - 1)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # as above
def _weights(  # type: ignore[no-untyped-def]  # as above
    lowest, plane_1, plane_2, scale, zero_point, line, byte, valid, eighth, groups,
    EIGHTH: tl.constexpr, WIDTH_0: tl.constexpr, WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, OFFSET: tl.constexpr,
    HAS_ZERO: tl.constexpr,
):  # fmt: skip
    code = (lowest >> (EIGHTH // WIDTH_0 * WIDTH_0)) & ((1 << WIDTH_0) - 1)
    if WIDTH_1 > 0:
        code += _higher(plane_1, line, byte, valid, eighth, EIGHTH, WIDTH_1) << WIDTH_0
    if WIDTH_2 > 0:
        code += _higher(plane_2, line, byte, valid, eighth, EIGHTH, WIDTH_2) << (WIDTH_0 + WIDTH_1)
    group = line * groups + (EIGHTH * eighth + byte) % groups
    if HAS_ZERO:
        code -= tl.load(zero_point + group, mask=valid, other=0).to(tl.int32)
    else:
        code -= OFFSET
    return code.to(tl.float32) * tl.load(scale + group, mask=valid, other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # as above
def _multiply(  # type: ignore[no-untyped-def]  # as above
    x, plane_0, plane_1, plane_2, scale, zero_point, shared, left, y, rows, outputs, eighth, groups, rank,
    WIDTH_0: tl.constexpr, WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, OFFSET: tl.constexpr,
    HAS_ZERO: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, BLOCK_M).to(tl.int64)[:, None]
    out = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    line = out.to(tl.int64)[:, None]  # products with a row's length pass 2^31 in large layers
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, eighth, BLOCK_K):
        byte = (start + tl.arange(0, BLOCK_K))[None, :]
        valid = (line < outputs) & (byte < eighth)
        for part in tl.static_range(WIDTH_0):
            address = plane_0 + line * (eighth * WIDTH_0) + (part * eighth + byte)
            lowest = tl.load(address, mask=valid, other=0).to(tl.int32)
            for shift in tl.static_range(8 // WIDTH_0):
                weight = _weights(
                    lowest, plane_1, plane_2, scale, zero_point, line, byte, valid, eighth, groups,
                    shift * WIDTH_0 + part, WIDTH_0, WIDTH_1, WIDTH_2, OFFSET, HAS_ZERO,
                )  # fmt: skip
                sample = tl.load(
                    x + row * (8 * eighth) + ((shift * WIDTH_0 + part) * eighth + byte),
                    mask=(row < rows) & (byte < eighth),
                    other=0.0,
                )
                total += tl.dot(sample, tl.trans(weight.to(sample.dtype)), input_precision="ieee")
    for start in range(0, rank, BLOCK_K):
        index = (start + tl.arange(0, BLOCK_K))[None, :]
        reduced = tl.load(shared + row * rank + index, mask=(row < rows) & (index < rank), other=0.0)
        factor = tl.load(left + line * rank + index, mask=(line < outputs) & (index < rank), other=0.0)
        total += tl.dot(reduced, tl.trans(factor), input_precision="ieee")
    place = y + row * outputs + out[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=(row < rows) & (out[None, :] < outputs))


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # as above
def _decode(  # type: ignore[no-untyped-def]  # as above
    plane_0, plane_1, plane_2, scale, zero_point, numbers, outputs, eighth, groups,
    WIDTH_0: tl.constexpr, WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, OFFSET: tl.constexpr,
    HAS_ZERO: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    line = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)[:, None]
    byte = (tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K))[None, :]
    valid = (line < outputs) & (byte < eighth)
    for part in tl.static_range(WIDTH_0):
        address = plane_0 + line * (eighth * WIDTH_0) + (part * eighth + byte)
        lowest = tl.load(address, mask=valid, other=0).to(tl.int32)
        for shift in tl.static_range(8 // WIDTH_0):
            weight = _weights(
                lowest, plane_1, plane_2, scale, zero_point, line, byte, valid, eighth, groups,
                shift * WIDTH_0 + part, WIDTH_0, WIDTH_1, WIDTH_2, OFFSET, HAS_ZERO,
            )  # fmt: skip
            place = numbers + line * (8 * eighth) + ((shift * WIDTH_0 + part) * eighth + byte)
            tl.store(place, weight.to(numbers.dtype.element_ty), mask=valid)


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
        x: [rows, in] of 16 bits, at most MOST_ROWS rows, columns in planar order and a multiple of 8, on the device of
            the planes.
        scale: [out, groups] of any floating dtype.
        shared: x·Rᵀ [rows, rank].
        left: L [out, rank], dtype of `shared`.
    """
    x = x.contiguous()
    rows, inputs = x.shape
    outputs = planes[0].shape[0]
    y = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
    rank = 0 if left is None else left.shape[1]
    _multiply[(triton.cdiv(outputs, BLOCK_OUT),)](
        x, *_pointers(planes, scale, zero_point),
        x if shared is None else shared.contiguous(), x if left is None else left.contiguous(), y,
        rows, outputs, inputs // 8, scale.shape[1], rank, **_constants(num_bits, zero_point),
        BLOCK_M=max(FEWEST_ROWS, triton.next_power_of_2(rows)), BLOCK_N=BLOCK_OUT, BLOCK_K=BLOCK_BYTES, **LAUNCH,
    )  # fmt: skip
    return y


def planar_decode(
    planes: list[Tensor], scale: Tensor, zero_point: Tensor | None, *, num_bits: int, dtype: torch.dtype
) -> Tensor:
    """Return Q [out, in] as numbers, columns in planar order; arguments as of `planar_multiply`."""
    outputs, eighth = planes[0].shape[0], planes[0].shape[1] // plane_widths(num_bits)[0]
    numbers = torch.empty((outputs, 8 * eighth), dtype=dtype, device=scale.device)
    _decode[triton.cdiv(outputs, BLOCK_OUT), triton.cdiv(eighth, BLOCK_BYTES)](
        *_pointers(planes, scale, zero_point), numbers, outputs, eighth, scale.shape[1],
        **_constants(num_bits, zero_point), BLOCK_N=BLOCK_OUT, BLOCK_K=BLOCK_BYTES, **LAUNCH,
    )  # fmt: skip
    return numbers


def _pointers(planes: list[Tensor], scale: Tensor, zero_point: Tensor | None) -> list[Tensor]:
    # A kernel takes a pointer for what is not there, too, and never reads it.
    padded = [*planes, planes[0], planes[0]][:3]
    return [*padded, scale, scale if zero_point is None else zero_point]


def _constants(num_bits: int, zero_point: Tensor | None) -> dict[str, Any]:
    widths = (*plane_widths(num_bits), 0, 0)[:3]
    return {
        **{f"WIDTH_{index}": width for index, width in enumerate(widths)},
        "OFFSET": 1 << (num_bits - 1),
        "HAS_ZERO": zero_point is not None,
    }
