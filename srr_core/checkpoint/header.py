"""The header of a safetensors file, read as text from a stranger: every number is checked before it is used."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from srr_core.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""
MAX_DIMENSIONS = 8
LFS_PREFIX = b"version "
"""How the small files begin that stand for large ones in a clone without git-lfs."""

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: bytes `begin` to `end` of its file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        """Size of the tensor's data."""
        return self.end - self.begin


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return every tensor of a safetensors file by name, without reading any data.

    Raises:
        CheckpointError: the header is too large, not JSON, names a tensor twice, or its offsets overlap,
            leave gaps or disagree with the shapes or the size of the file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if prefix == LFS_PREFIX:
                raise CheckpointError(
                    f"{file.name}: is a pointer of git-lfs, not the file itself; run `git lfs pull` in the folder"
                )
            if len(prefix) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(f"{file.name}: not a safetensors file: its header claims {length} bytes")
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file.name}: cannot be read: {os.strerror(error.errno or 0)}") from error
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.name}: its safetensors header is damaged: {error}") from error
    if not text.isascii() or b"\\u" in text:
        _check_text(file, header)
    if not isinstance(header, dict):
        raise CheckpointError(f"{file.name}: its safetensors header is not an object")
    header.pop("__metadata__", None)
    entries = {name: _entry(file, name, value, 8 + length) for name, value in header.items()}
    _check_layout(file, entries, 8 + length, size)
    return entries


def _check_text(file: Path, header: Any) -> None:
    """Refuse names that no report could be written with: JSON lets half of a surrogate pair through."""
    for name in header if isinstance(header, dict) else ():
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in name):
            raise CheckpointError(f"{file.name}: tensor {name!r} is named with what is no text")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is named twice")
        found[key] = value
    return found


def _entry(file: Path, name: str, value: Any, base: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = DTYPES[value["dtype"]], tuple(value["shape"]), value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file.name}: tensor {name!r} has a damaged entry or an unknown dtype") from error
    numbers = (*shape, begin, end)
    if len(shape) > MAX_DIMENSIONS or not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise CheckpointError(f"{file.name}: tensor {name!r} has an impossible shape {list(shape)}")
    expected = dtype.itemsize
    for dimension in shape:
        expected *= dimension
    if end - begin != expected:
        raise CheckpointError(f"{file.name}: tensor {name!r} has {end - begin} bytes, its shape needs {expected}")
    return TensorEntry(file, dtype, shape, base + begin, base + end)


def _check_layout(file: Path, entries: dict[str, TensorEntry], base: int, size: int) -> None:
    position = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise CheckpointError(f"{file.name}: tensor {name!r} overlaps another or leaves a gap")
        position = entry.end
    if position != size:
        raise CheckpointError(f"{file.name}: is truncated or has trailing bytes: {size} bytes, expected {position}")
