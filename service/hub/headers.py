"""The header of a safetensors file, read as text from a stranger: every number is checked before it is used.

The format: eight bytes of length, so many bytes of JSON, then the data without gaps. So the header alone tells how
long the file has to be, and no shape is larger than the file that is to hold it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.platform.text import is_text

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 8_000_000
"""Forty times that of the largest file of a published mixture of experts; more takes seconds to read."""
MAX_TENSORS = 50_000
"""In one file. The largest mixtures have as many in a hundred files."""
_MAX_DIMENSIONS = 8
_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Every type of the format and the size of a value."""

ReadBytes = Callable[[int, int], bytes]
"""Returns the bytes of a file from one position up to another; fewer where it ends before."""


class DamagedHeaderError(ValueError):
    """A header that does not say what the format wants it to; the message says what is wrong, in half a sentence."""


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as a header declares it."""

    dtype: str
    shape: tuple[int, ...]


def read_header(read: ReadBytes, *, size_bytes: int, first_bytes: int = 100_000) -> dict[str, TensorHeader]:
    """Return what a file of this size declares, by the names of its tensors.

    Args:
        read: Asked for the beginning, and once more when the header is longer than that.

    Raises:
        DamagedHeaderError: it is no header, is too large, or does not fit the size of the file.
    """
    beginning = read(0, min(first_bytes, size_bytes))
    length = int.from_bytes(beginning[:LENGTH_BYTES], "little")
    if len(beginning) < LENGTH_BYTES or length > size_bytes - LENGTH_BYTES:
        raise DamagedHeaderError(f"its header claims {length:,} bytes, the file has {size_bytes:,}")
    if length > MAX_HEADER_BYTES:
        raise DamagedHeaderError(f"its header has {length:,} bytes, {MAX_HEADER_BYTES:,} are the most that are read")
    end = LENGTH_BYTES + length
    text = beginning[LENGTH_BYTES:end] if end <= len(beginning) else read(LENGTH_BYTES, end)
    if len(text) < length:
        raise DamagedHeaderError("its header is cut off")
    return _tensors(_document(text), data_bytes=size_bytes - end)


def _document(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise DamagedHeaderError("its header is nested too deeply") from None
    except DamagedHeaderError:
        raise
    except ValueError:
        raise DamagedHeaderError("its header is no JSON") from None
    if not isinstance(found, dict):
        raise DamagedHeaderError("its header is no JSON object")
    found.pop("__metadata__", None)
    if len(found) > MAX_TENSORS:
        raise DamagedHeaderError(f"it declares {len(found):,} tensors, {MAX_TENSORS:,} are the most that are read")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DamagedHeaderError("its header names something twice")
    return found


def _tensors(document: Mapping[str, Any], *, data_bytes: int) -> dict[str, TensorHeader]:
    tensors: dict[str, TensorHeader] = {}
    spans: list[tuple[int, int]] = []
    for name, value in document.items():
        if not is_text(name):
            raise DamagedHeaderError("a tensor's name holds a NUL character or half of a surrogate pair")
        tensors[name], span = _tensor(name, value, data_bytes)
        spans.append(span)
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise DamagedHeaderError("its tensors overlap or leave gaps")
        position = end
    if position != data_bytes:
        raise DamagedHeaderError(
            f"it has {data_bytes:,} bytes of data and declares {position:,}: it is cut off or was put together wrongly"
        )
    return tensors


def _tensor(name: str, value: Any, data_bytes: int) -> tuple[TensorHeader, tuple[int, int]]:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if dtype in _BITS:
            numbers = (*shape, begin, end)
        case _:
            raise DamagedHeaderError(f"the entry of {name[:100]} is damaged, or of a type that is not known")
    if len(shape) > _MAX_DIMENSIONS or not all(type(one) is int and 0 <= one <= data_bytes for one in numbers):
        raise DamagedHeaderError(f"{name[:100]} has an impossible shape or place")
    if _BITS[dtype] * math.prod(shape) != 8 * (end - begin):
        raise DamagedHeaderError(f"the shape of {name[:100]} does not fit its {end - begin:,} bytes")
    return TensorHeader(dtype, tuple(shape)), (begin, end)
