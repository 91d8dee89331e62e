"""Finished layers in a folder, each durable by itself and read again only where it is whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.errors import CheckpointError
from srr_core.pipeline.layer_record import LayerRecord, read_layer_record

CHECKSUM = "sha256"
"""Of a layer's record and its tensors together, in the record's file."""


@dataclass(frozen=True)
class FinishedLayer:
    """One layer that is durable: its record, and where its tensors lie."""

    record: LayerRecord
    tensors: Mapping[str, TensorEntry]


class LayerFolder:
    """Layers by their place in the plan.

    A layer is its tensors in one file and its record in another; a layer without a record, or whose bytes are not
    those that were written, is not finished, so no order of writing can make a wrong one.

    Args:
        path: Made by whoever owns it.
        is_durable: Whether a finished layer outlives a loss of power. Without it some are made again then, as their
            records tell that their bytes are not those that were written.
    """

    def __init__(self, path: Path, *, is_durable: bool = True) -> None:
        self.path = path
        self._is_durable = is_durable
        self._known: dict[int, FinishedLayer] = {}

    def finished(self, index: int, name: str) -> FinishedLayer | None:
        """Return a layer that was finished by this run or by one before it, or None.

        What an earlier run left is read once, to see that it is whole.
        """
        if index not in self._known:
            found = self._found(index)
            if found is None:
                return None
            self._known[index] = found
        layer = self._known[index]
        return layer if layer.record.name == name else None

    def finish(self, index: int, tensors: Mapping[str, Tensor], record: LayerRecord) -> None:
        """Make a layer durable. Raises StorageError; the layer is then unfinished."""
        tensors_file, record_file = self._files(index)
        self._known.pop(index, None)
        write_tensors(tensors_file, tensors, is_durable=self._is_durable)
        stated = record.model_dump(mode="json")
        stated[CHECKSUM] = _checksum(stated, tensors_file)
        write_json(record_file, stated, is_durable=self._is_durable)
        self._known[index] = FinishedLayer(record, read_header(tensors_file))

    def _found(self, index: int) -> FinishedLayer | None:
        tensors, record = self._files(index)
        try:
            stated = json.loads(record.read_text("utf-8"))
            if not isinstance(stated, dict) or stated.pop(CHECKSUM, None) != _checksum(stated, tensors):
                return None
            return FinishedLayer(read_layer_record(stated), read_header(tensors))
        except (ValueError, OSError, CheckpointError):
            return None

    def _files(self, index: int) -> tuple[Path, Path]:
        return self.path / f"{index:05d}.safetensors", self.path / f"{index:05d}.json"


def _checksum(stated: Mapping[str, Any], tensors: Path) -> str:
    with tensors.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    digest.update(json.dumps(stated, sort_keys=True).encode())
    return digest.hexdigest()
