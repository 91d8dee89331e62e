"""Finished layers on disk, so that a run that was killed goes on where it stopped."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.writer import require_free, sync_folder, write_json, write_tensors
from srr_core.errors import CheckpointError, DestinationError, ResumeMismatchError, StorageError
from srr_core.pipeline.layer_record import LayerRecord, read_layer_record

FINGERPRINT_NAME = "fingerprint.json"
PARTIAL_SUFFIX = ".partial"
LOCK_NAME = ".lock"
CHECKSUM = "sha256"
"""Of a layer's record and its tensors together, in the record's file."""
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What file systems without locks answer, as some of clusters do; there one run at a time is the user's own care."""


@dataclass(frozen=True)
class FinishedLayer:
    """One layer that is durable: its record, and where its tensors lie."""

    record: LayerRecord
    tensors: Mapping[str, TensorEntry]


class WorkFolder:
    """The unfinished state of one run, in `<destination>.partial` beside the destination.

    A layer is its tensors in one file and its record in another; a layer without a record, or whose bytes are not
    those that were written, is not finished, so no order of writing can make a wrong one. The folder becomes the
    destination by one rename.

    It has the folder for itself until it is closed; the lock is the kernel's and falls with the process.

    Args:
        fingerprint: Everything the bits of the result depend on.
    Raises:
        DestinationError: the destination exists, its parent cannot be written, or another run is at work on it.
        ResumeMismatchError: the folder holds work of another fingerprint.
    """

    def __init__(self, destination: Path, fingerprint: Mapping[str, str]) -> None:
        require_free(destination)
        self._destination = destination
        self.path = destination.with_name(destination.name + PARTIAL_SUFFIX)
        self._layers = self.path / "layers"
        self._known: dict[int, FinishedLayer] = {}
        self.artifact = self.path / "artifact"
        try:
            self._layers.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DestinationError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            self._take()
            self._claim(dict(fingerprint))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another run have the folder."""
        os.close(self._lock)

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
        write_tensors(tensors_file, tensors)
        stated = record.model_dump(mode="json")
        write_json(record_file, {**stated, CHECKSUM: _checksum(stated, tensors_file)})
        self._known[index] = FinishedLayer(record, read_header(tensors_file))

    def publish(self) -> None:
        """Turn the assembled artifact into the destination and remove the rest.

        Raises:
            DestinationError: the destination has appeared in the meantime.
        """
        if self._destination.exists():
            raise DestinationError(f"{self._destination} appeared while the run was going; its work is in {self.path}")
        try:
            self.artifact.rename(self._destination)
            sync_folder(self._destination.parent)
        except OSError as error:
            raise StorageError(f"{self._destination} could not be created: {error.strerror}") from error
        shutil.rmtree(self.path, ignore_errors=True)

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
        return self._layers / f"{index:05d}.safetensors", self._layers / f"{index:05d}.json"

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DestinationError(
                f"{self.path} is in use by another run to the same destination; wait for it, stop it, or choose "
                "another destination"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise DestinationError(f"{self.path} cannot be locked: {error.strerror}") from error
        # Whoever held the lock before may have published since the first look.
        require_free(self._destination)
        try:
            shutil.rmtree(self.artifact, ignore_errors=True)
            self.artifact.mkdir()
        except OSError as error:
            raise DestinationError(f"{self.path} cannot be written: {error.strerror}") from error

    def _claim(self, fingerprint: dict[str, str]) -> None:
        file = self.path / FINGERPRINT_NAME
        if not file.exists():
            if any(self._layers.iterdir()):
                raise ResumeMismatchError(
                    f"{self.path} holds layers but no {FINGERPRINT_NAME}; remove it to start over"
                )
            write_json(file, fingerprint)
            return
        try:
            before = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            raise ResumeMismatchError(f"{file} is damaged; remove {self.path} to start over")
        changed = sorted(key for key in before.keys() | fingerprint.keys() if before.get(key) != fingerprint.get(key))
        if changed:
            raise ResumeMismatchError(
                f"{self.path} holds unfinished work with another {', '.join(changed)}; "
                "repeat the earlier command to finish it, or remove the folder to start over"
            )


def _checksum(stated: Mapping[str, Any], tensors: Path) -> str:
    with tensors.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    digest.update(json.dumps(stated, sort_keys=True).encode())
    return digest.hexdigest()
