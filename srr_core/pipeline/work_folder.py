"""Finished layers on disk, so that a run that was killed goes on where it stopped."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from srr_core.checkpoint.writer import require_free, sync_folder, write_json
from srr_core.errors import DestinationError, ResumeMismatchError, StorageError
from srr_core.pipeline.layer_folder import FinishedLayer, LayerFolder
from srr_core.pipeline.layer_record import LayerRecord

FINGERPRINT_NAME = "fingerprint.json"
PARTIAL_SUFFIX = ".partial"
LOCK_NAME = ".lock"
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What file systems without locks answer, as some of clusters do; there one run at a time is the user's own care."""


class WorkFolder:
    """The unfinished state of one run, in `<destination>.partial` beside the destination.

    It becomes the destination by one rename, and until it is closed it is this run's alone; the lock is the
    kernel's and falls with the process.

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
        self.layers = LayerFolder(self.path / "layers")
        self.artifact = self.path / "artifact"
        try:
            self.layers.path.mkdir(parents=True, exist_ok=True)
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
        """Return a layer that was finished by this run or by one before it, or None."""
        return self.layers.finished(index, name)

    def finish(self, index: int, tensors: Mapping[str, Tensor], record: LayerRecord) -> None:
        """Make a layer durable. Raises StorageError; the layer is then unfinished."""
        self.layers.finish(index, tensors, record)

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
            if any(self.layers.path.iterdir()):
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
