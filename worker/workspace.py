"""Scratch space of jobs: one directory each, with a budget, kept between attempts and removed at the end."""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from srr_core.errors import StorageError
from srr_core.recipe.byte_sizes import size_words

_JOB_ID = re.compile(r"job_[0-9a-z]{26}")


class WorkspaceBusyError(Exception):
    """Another attempt of the same job still holds its directory."""


@dataclass(frozen=True)
class Workspace:
    """The scratch directory of one job. A retry finds what an earlier attempt on this machine left in it."""

    root: Path

    @property
    def source(self) -> Path:
        """Where the source checkpoint is downloaded to."""
        return self.root / "source"

    @property
    def reference(self) -> Path:
        """Where the model that the source is compared with is downloaded to."""
        return self.root / "reference"

    @property
    def artifact(self) -> Path:
        """Where the artifact appears, complete; unfinished work is beside it."""
        return self.root / "artifact"

    @property
    def calibration_text(self) -> Path:
        """Where the job's own calibration text is written."""
        return self.root / "calibration.txt"

    @property
    def evaluation_text(self) -> Path:
        """Where the job's own evaluation text is written."""
        return self.root / "evaluation.txt"

    @property
    def data(self) -> Path:
        """Where what the job learns from lies."""
        return self.root / "data"

    @property
    def hub_home(self) -> Path:
        """Cache of the Hub client; never shared between jobs, or one tenant could read another's private model."""
        return self.root / "hub-home"

    @property
    def temporary(self) -> Path:
        """TMPDIR of the job's process."""
        return self.root / "tmp"

    def finished_layers(self) -> int:
        """Return how many layers the core has made durable in work that is not finished."""
        return sum(1 for _ in self.root.glob("*.partial/layers/*.json"))

    def latest_checkpoint(self) -> str:
        """Return which checkpoint of which training the core has made durable last; empty before the first."""
        found = (path.parts for path in self.root.glob("*.partial/cells/*/checkpoints/step-*"))
        training, _, step = max((parts[-3:] for parts in found), default=("", "", ""))
        return f"{step} of training {training}" if step else ""

    def size_bytes(self) -> int:
        """Return the space its files take. Files that vanish meanwhile count as nothing."""
        total = 0
        for path in self.root.rglob("*"):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total


class Workspaces:
    """The scratch directories of a worker. Several workers of one machine may share the root."""

    def __init__(self, root: Path, *, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes

    @contextmanager
    def hold(self, job_id: str) -> Iterator[tuple[Workspace, int]]:
        """Make or find a job's directory and hold it; yields it and the descriptor of the lock.

        The lock is the kernel's: a process that inherits the descriptor holds it as well, and it falls when
        the last of them dies.

        Raises:
            WorkspaceBusyError: a process of an earlier attempt is still alive.
            StorageError: less than the reserve is free.
        """
        workspace = self._at(job_id)
        workspace.temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(workspace.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock, job_id)
            self.require_free(0)
            yield workspace, lock
        finally:
            os.close(lock)

    def require_usable(self) -> None:
        """Raise StorageError unless a file can be written and the reserve is free."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root) as probe:
                probe.write(b"a worker looks whether it can write")
                probe.flush()
        except OSError as error:
            raise StorageError(f"{self._root} cannot be written: {error.strerror or error}") from error
        self.require_free(0)

    def require_free(self, needed_bytes: int) -> None:
        """Raise StorageError unless so much fits beside the reserve."""
        free = shutil.disk_usage(self._root).free
        if free < needed_bytes + self._reserve_bytes:
            raise StorageError(
                f"the worker has {size_words(free)} of scratch space free, and the job needs "
                f"{size_words(needed_bytes)} beside a reserve of {size_words(self._reserve_bytes)}; "
                "free some space, or set WORKER_SCRATCH_DIR to a larger disk"
            )

    def remove(self, job_id: str) -> None:
        """Delete a job's directory, if it is there."""
        shutil.rmtree(self._at(job_id).root, ignore_errors=True)

    def sweep(self, is_over: Callable[[str], bool]) -> list[str]:
        """Delete the directories of jobs that are over, and return their ids.

        They are left by a worker that was killed, or by a job that ended on another machine.
        """
        if not self._root.is_dir():
            return []
        found = sorted(path.name for path in self._root.iterdir() if _JOB_ID.fullmatch(path.name))
        over = [job_id for job_id in found if is_over(job_id)]
        for job_id in over:
            self.remove(job_id)
        return over

    def _at(self, job_id: str) -> Workspace:
        if not _JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is not a job id")
        return Workspace(self._root / job_id)


def _lock(descriptor: int, job_id: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WorkspaceBusyError(f"an earlier attempt of {job_id} is still running on this machine") from error
