"""Which tensor is in which file of a checkpoint folder."""

import json
from pathlib import Path
from typing import Any

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.header_text import LFS_PREFIX, POINTER
from srr_core.checkpoint.weight_files import INDEX_NAME, INDEX_SUFFIX, SINGLE_NAME, first_file, named_files
from srr_core.errors import CheckpointError

__all__ = ["INDEX_NAME", "SINGLE_NAME", "read_index", "read_json"]

CONFIG_NAME = "config.json"
MAX_JSON_BYTES = 100_000_000


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, larger than 100 MB, not JSON or not an object.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{file.name}: larger than {MAX_JSON_BYTES} bytes")
        content = file.read_bytes()
        if content.startswith(LFS_PREFIX):
            raise CheckpointError(f"{file.name}: {POINTER}")
        value = json.loads(content.decode())
    except FileNotFoundError:
        raise CheckpointError(f"{file.name} is missing in {file.parent.name!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.name}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file.name}: holds no JSON object")
    return value


def read_index(directory: Path, *, may_have_adapter: bool = False) -> dict[str, TensorEntry]:
    """Return every tensor that stock loaders read from a checkpoint folder, with its place on disk.

    Args:
        may_have_adapter: For folders of our own, whose L·R is an adapter beside the weights.
    Raises:
        CheckpointError: no safetensors weights, an adapter beside them, a file outside the folder or missing, a tensor
            that the index names and no file holds.
    """
    try:
        names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    except OSError as error:
        raise CheckpointError(f"{directory.name}: cannot be read: {error.strerror}") from error
    config = read_json(directory / CONFIG_NAME) if CONFIG_NAME in names else {}
    first = first_file(names, config, may_have_adapter=may_have_adapter)
    if not first.endswith(INDEX_SUFFIX):
        return read_header(directory / first)
    index = read_json(directory / first)
    entries: dict[str, TensorEntry] = {}
    for file in named_files(first, index, names):
        entries |= read_header(directory / file)  # of two files with one name the later counts, as in stock
    for name, file in index["weight_map"].items():
        if name not in entries:
            raise CheckpointError(f"{first}: places {name!r} in {file}, which does not hold it")
    return entries
