"""The source of a run as the model class takes it: decoded where it is stored as codes, converted where it is old."""

from collections.abc import Mapping
from pathlib import Path

from srr_core.checkpoint.decoding import decoded
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.index import CONFIG_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.models.architecture import Architecture
from srr_core.models.conversion import converted


def open_source(directory: Path, architecture: Architecture) -> tuple[CheckpointReader, list[str]]:
    """Return a reader of the weights of a folder, and notes about what it does. Reads headers alone.

    Raises:
        UnsupportedModelError: the weights are codes that are not decoded.
        CheckpointError: the weights are missing, damaged or do not fit each other.
    """
    stored = CheckpointReader(directory)
    numbers, scheme = decoded(stored.entries, read_json(directory / CONFIG_NAME))
    reader = stored.showing(numbers)
    return reader.showing(converted(architecture.model, numbers)), [scheme.note] if scheme is not None else []


def shown_entries(
    directory: Path, architecture: Architecture, entries: Mapping[str, TensorEntry]
) -> dict[str, TensorEntry]:
    """Return what `open_source` would show of files that need not be there. Raises as it does.

    Args:
        directory: With config.json.
    """
    numbers, _ = decoded(entries, read_json(directory / CONFIG_NAME))
    return converted(architecture.model, numbers)
