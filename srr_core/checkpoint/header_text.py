"""The header of a safetensors file, read as text from a stranger: every number is checked before it is used.

The format: eight bytes of length, so many bytes of JSON, then the data without gaps. So the header alone tells how
long the file has to be, and no shape is larger than the file that is to hold it. Torch-free, so that a service judges
the files of a hub by the same rules as a run judges those of a folder.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from srr_core.errors import DamagedHeaderError

PREFIX_BYTES = 8
"""Of the length that comes before the header."""
MAX_DIMENSIONS = 8
MAX_NUMBER = 2**63 - 1
"""No size and no place in a file is larger; a file that is too short for its numbers is truncated."""
MAX_NAME = 100
"""Characters of a tensor's name in a message."""
LFS_PREFIX = b"version "
"""How the small files begin that stand for large ones in a clone without git-lfs."""
POINTER = "is a pointer of git-lfs, not the file itself; run `git lfs pull` in the folder"
ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "F64"), 8),
}
"""Bytes of a value, by the words that safetensors has for types of whole bytes."""
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Bounds:
    """How much of a header is read at all."""

    header_bytes: int = 100_000_000
    """The limit of the safetensors library itself."""
    tensors: int = 1_000_000
    """In one file; every tensor costs memory before any of it is read."""


OWN = Bounds()
"""For files that somebody chose to have on this machine: whatever the library itself reads."""


@dataclass(frozen=True)
class HeaderEntry:
    """One tensor as a header declares it: bytes `begin` to `end` of the file."""

    dtype: str
    """A key of `ITEM_BYTES`."""
    shape: tuple[int, ...]
    begin: int
    end: int


def header_length(prefix: bytes, size: int, *, file: str, bounds: Bounds = OWN) -> int:
    """Return how many bytes of header follow the first eight.

    Args:
        prefix: The first `PREFIX_BYTES` bytes of the file, or all there are.
        size: Bytes of the whole file.
        file: Its name, for messages.
        bounds: The longest header that is read.
    Raises:
        DamagedHeaderError: empty, a pointer of git-lfs, no safetensors file, or a header longer than is read.
    """
    if not size:
        raise DamagedHeaderError(f"{file}: is empty")
    if prefix == LFS_PREFIX:
        raise DamagedHeaderError(f"{file}: {POINTER}")
    length = int.from_bytes(prefix, "little")
    if len(prefix) < PREFIX_BYTES or length > size - PREFIX_BYTES:
        raise DamagedHeaderError(
            f"{file}: not a safetensors file: its header claims {length} bytes, the file has {size}"
        )
    if length > bounds.header_bytes:
        raise DamagedHeaderError(
            f"{file}: its header has {length} bytes; {bounds.header_bytes} are the most that are read"
        )
    return length


def parse_header(text: bytes, size: int, *, file: str, bounds: Bounds = OWN) -> dict[str, HeaderEntry]:
    """Return every tensor of a safetensors file by name.

    Args:
        text: The header, without its length.
        size: Bytes of the whole file.
        file: Its name, for messages.
        bounds: The most tensors that are read.
    Raises:
        DamagedHeaderError: the header is not JSON, nested too deeply, names a tensor twice or by what is no text, has
            more tensors than are read, or its offsets overlap, leave gaps or disagree with the shapes or the size of
            the file.
    """
    header = _document(text, file)
    header.pop("__metadata__", None)
    if len(header) > bounds.tensors:
        raise DamagedHeaderError(f"{file}: declares {len(header)} tensors; {bounds.tensors} are the most that are read")
    base = PREFIX_BYTES + len(text)
    entries = {name: _entry(file, name, value, base) for name, value in header.items()}
    _check_layout(file, entries, base, size)
    return entries


def _document(text: bytes, file: str) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise DamagedHeaderError(f"{file}: its safetensors header is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise DamagedHeaderError(f"{file}: its safetensors header is damaged: {error}") from error
    if not isinstance(header, dict):
        raise DamagedHeaderError(f"{file}: its safetensors header is not an object")
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if _NO_TEXT.search(key):
            raise ValueError(f"the name {ascii(key)[:MAX_NAME]} holds a NUL character or half of a surrogate pair")
        if key in found:
            raise ValueError(f"{key[:MAX_NAME]!r} is named twice")
        found[key] = value
    return found


def _entry(file: str, name: str, value: Any, base: int) -> HeaderEntry:
    told = f"{file}: tensor {name[:MAX_NAME]!r}"
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if dtype in ITEM_BYTES:
            numbers = (*shape, begin, end)
        case _:
            raise DamagedHeaderError(f"{told} has a damaged entry or an unknown dtype")
    if len(shape) > MAX_DIMENSIONS or not all(type(number) is int and 0 <= number <= MAX_NUMBER for number in numbers):
        raise DamagedHeaderError(f"{told} has an impossible shape or place")
    expected = ITEM_BYTES[dtype] * math.prod(shape)
    if end - begin != expected:
        raise DamagedHeaderError(f"{told} has {end - begin} bytes, its shape needs {expected}")
    return HeaderEntry(dtype, tuple(shape), base + begin, base + end)


def _check_layout(file: str, entries: Mapping[str, HeaderEntry], base: int, size: int) -> None:
    position = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise DamagedHeaderError(f"{file}: tensor {name[:MAX_NAME]!r} overlaps another or leaves a gap")
        position = entry.end
    if position != size:
        raise DamagedHeaderError(f"{file}: is truncated or has trailing bytes: {size} bytes, expected {position}")
