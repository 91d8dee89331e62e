"""Safetensors files that are complete or absent."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from srr_core.checkpoint.header import DTYPES, TensorEntry
from srr_core.checkpoint.index import INDEX_NAME
from srr_core.errors import DestinationError, StorageError

DEFAULT_SHARD_BYTES = 5_000_000_000
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT = 8


@contextmanager
def atomic_file(file: Path, *, is_durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that appears under its name, on disk with its content, only when the block ends well.

    Args:
        is_durable: Whether it outlives a loss of power; a process that is killed loses nothing either way.
    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            if is_durable:
                os.fsync(stream.fileno())
        partial.replace(file)
        if is_durable:
            sync_folder(file.parent)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
        raise StorageError(f"{file.name} could not be written: {reason}; free space and run again to resume") from error
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk: without it a file may lose its new name with the power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(file: Path, value: object, *, is_durable: bool = True) -> None:
    """Write a JSON document, complete or not at all. Raises StorageError."""
    with atomic_file(file, is_durable=is_durable) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def write_tensors(
    file: Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    is_durable: bool = True,
) -> None:
    """Write one safetensors file, complete or not at all.

    Args:
        tensors: Any device, any strides; written in the order given.
        is_durable: As `atomic_file` says.
    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    entries = {name: (tensor.dtype, tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()}
    _write(file, entries, lambda name: tensor_bytes(tensors[name]), metadata, is_durable=is_durable)


class ShardPlan:
    """Tensors of known size, cut into shards in the order they are added, then copied without loading them all."""

    def __init__(self, *, max_shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
        self._max_shard_bytes = max_shard_bytes
        self._shards: list[dict[str, TensorEntry]] = [{}]
        self._last_bytes = 0

    def add(self, name: str, entry: TensorEntry) -> None:
        """Put a tensor that lies in another file into the next place."""
        if self._last_bytes and self._last_bytes + entry.num_bytes > self._max_shard_bytes:
            self._shards.append({})
            self._last_bytes = 0
        self._shards[-1][name] = entry
        self._last_bytes += entry.num_bytes

    def write(self, directory: Path) -> int:
        """Write shards and their index, one tensor in memory at a time. Returns the bytes of all tensors.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        count, weight_map, total = len(self._shards), {}, 0
        for number, shard in enumerate(self._shards, start=1):
            name = f"model-{number:05d}-of-{count:05d}.safetensors"
            total += copy_tensors(directory / name, shard)
            weight_map.update(dict.fromkeys(shard, name))
        write_json(directory / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
        return total


def copy_tensors(file: Path, entries: Mapping[str, TensorEntry]) -> int:
    """Write one safetensors file from tensors of other files, one in memory at a time. Returns their bytes.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    sizes = {name: (entry.dtype, entry.shape, entry.num_bytes) for name, entry in entries.items()}
    _write(file, sizes, lambda name: _read(entries[name]), {"format": "pt"})
    return sum(entry.num_bytes for entry in entries.values())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the raw little-endian data of a tensor."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def _read(entry: TensorEntry) -> memoryview:
    with entry.file.open("rb") as stream:
        stream.seek(entry.begin)
        return memoryview(stream.read(entry.num_bytes))


def _write(
    file: Path,
    entries: Mapping[str, tuple[torch.dtype, tuple[int, ...], int]],
    data: Callable[[str], memoryview],
    metadata: Mapping[str, str] | None,
    *,
    is_durable: bool = True,
) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape, num_bytes) in entries.items():
        offsets = [position, position + num_bytes]
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": offsets}
        position += num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with atomic_file(file, is_durable=is_durable) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in entries:
            stream.write(data(name))


def require_free(destination: Path) -> None:
    """Raise DestinationError when something is at the destination."""
    if destination.exists():
        raise DestinationError(f"{destination} exists already; choose a new folder or remove it first")
