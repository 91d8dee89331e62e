"""The header of a safetensors file on this machine, with dtypes as torch has them."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from srr_core.checkpoint.header_text import PREFIX_BYTES, header_length, parse_header
from srr_core.errors import CheckpointError

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
"""By the names of `header_text.ITEM_BYTES`."""


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
        CheckpointError: the file cannot be read, or `parse_header` refuses its header.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = header_length(stream.read(PREFIX_BYTES), size, file=file.name)
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file.name}: cannot be read: {os.strerror(error.errno or 0)}") from error
    return {
        name: TensorEntry(file, DTYPES[found.dtype], found.shape, found.begin, found.end)
        for name, found in parse_header(text, size, file=file.name).items()
    }
