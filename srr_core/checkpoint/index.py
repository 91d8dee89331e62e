"""Which tensor is in which file of a checkpoint folder."""

import json
from pathlib import Path
from typing import Any

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_JSON_BYTES = 100_000_000


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, larger than 100 MB, not JSON or not an object.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{file.name}: larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file.name} is missing in {file.parent.name!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.name}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file.name}: holds no JSON object")
    return value


def read_index(directory: Path) -> dict[str, TensorEntry]:
    """Return every tensor of a checkpoint, single-file or sharded, with its place on disk.

    Raises:
        CheckpointError: no safetensors weights, a shard outside the folder or missing, a tensor that the index
            and the shards disagree about.
    """
    if not (directory / INDEX_NAME).exists():
        if not (directory / SINGLE_NAME).exists():
            raise CheckpointError(
                f"no {SINGLE_NAME} or {INDEX_NAME} in {directory.name!r}: only safetensors checkpoints are read"
            )
        return read_header(directory / SINGLE_NAME)
    weight_map = read_json(directory / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{INDEX_NAME}: has no weight_map from tensor names to file names")
    shards = {shard: read_header(_shard(directory, shard)) for shard in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CheckpointError(f"{INDEX_NAME}: places {name!r} in {shard}, which does not hold it")
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _shard(directory: Path, shard: str) -> Path:
    if Path(shard).name != shard or not shard.endswith(".safetensors"):
        raise CheckpointError(f"{INDEX_NAME}: names {shard!r}, which is not a safetensors file of this folder")
    file = directory / shard
    if not file.exists():
        raise CheckpointError(f"{INDEX_NAME}: names {shard}, which is missing")
    return file
