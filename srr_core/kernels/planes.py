"""Codes cut into bit planes, so that decoding is a mask and a shift over long contiguous runs.

A width is a sum of 8, 4, 2 and 1 (3 bits = a plane of 2 and one of 1). A plane of w bits cuts a row into
8/w equal runs and puts code j of every run into byte j, so each run decodes by one vector instruction per
byte. Columns are reordered first: position `member * groups + group` instead of `group * size + member`,
which makes the scales of a row one contiguous vector that repeats `size` times. Activations are reordered
the same way, which is cheap: they are small.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

_WIDTHS = (8, 4, 2, 1)


def plane_widths(num_bits: int) -> tuple[int, ...]:
    """Return the widths of the planes of a code, lowest bits first."""
    return tuple(width for width in _WIDTHS if num_bits & width)


def fits_planes(num_bits: int, columns: int) -> bool:
    """Whether every plane cuts a row into runs of whole bytes."""
    return all(columns * width % 8 == 0 for width in plane_widths(num_bits))


def group_last(values: Shaped[Tensor, "rows columns"], group_size: int) -> Shaped[Tensor, "rows columns"]:
    """Return the columns reordered so that neighbours are the same member of successive groups."""
    rows, columns = values.shape
    return values.reshape(rows, columns // group_size, group_size).transpose(1, 2).reshape(rows, columns)


def group_first(values: Shaped[Tensor, "rows columns"], group_size: int) -> Shaped[Tensor, "rows columns"]:
    """Return the columns in their natural order again: the inverse of `group_last`."""
    rows, columns = values.shape
    return values.reshape(rows, group_size, columns // group_size).transpose(1, 2).reshape(rows, columns)


def to_planes(values: UInt8[Tensor, "rows columns"], num_bits: int) -> list[UInt8[Tensor, "rows bytes"]]:
    """Return the planes of unsigned codes, columns in the order given."""
    planes, shift = [], 0
    for width in plane_widths(num_bits):
        bits = (values >> shift) & ((1 << width) - 1)
        runs = bits.reshape(values.shape[0], 8 // width, -1)
        plane = torch.zeros_like(runs[:, 0])
        for index in range(runs.shape[1]):
            plane |= runs[:, index] << (index * width)
        planes.append(plane)
        shift += width
    return planes


def from_planes(planes: Sequence[UInt8[Tensor, "rows _"]], num_bits: int) -> UInt8[Tensor, "rows columns"]:
    """Return the unsigned codes of some rows: the inverse of `to_planes`."""
    rows, num_bytes = planes[0].shape
    widths = plane_widths(num_bits)
    columns = num_bytes * 8 // widths[0]
    codes = torch.empty((rows, columns), dtype=torch.uint8, device=planes[0].device)
    _decode_plane(planes[0], widths[0], codes)
    shift = widths[0]
    for plane, width in zip(planes[1:], widths[1:], strict=True):
        higher = torch.empty_like(codes)
        _decode_plane(plane, width, higher)
        codes |= higher.bitwise_left_shift_(shift)
        shift += width
    return codes


def _decode_plane(plane: Tensor, width: int, out: Tensor) -> None:
    run = plane.shape[1]
    count, mask = 8 // width, (1 << width) - 1
    for index in range(count):
        target = out[:, index * run : (index + 1) * run]
        if index == 0 and count > 1:
            torch.bitwise_and(plane, mask, out=target)
            continue
        torch.bitwise_right_shift(plane, index * width, out=target)
        if 0 < index < count - 1:
            target.bitwise_and_(mask)
