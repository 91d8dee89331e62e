"""When a running job has to be stopped: its lease, a cancel, its time, its disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from service.jobs.ports import JobsOfWorkers
from service.jobs.schema import JobFailure, JobState, Lease
from service.platform.errors import StoreUnavailableError
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.stages import Stage
from worker.workspace import Workspace

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long and how much a job may take, and how closely it is watched."""

    lease: timedelta
    heartbeat_seconds: float
    time_limit_seconds: float
    disk_budget_bytes: int
    grace_seconds: float
    plan_seconds: float = float("inf")
    """How long reading configuration, tokenizer and texts may take: what takes longer is made to."""
    memory_budget_bytes: float = float("inf")
    look_seconds: float = 1.0
    """How often a cancel is looked for; a cancel takes so long, plus what the core needs to finish a layer."""


@dataclass(frozen=True)
class Stop:
    """A child that must end, and the outcome of its job: `failed` has a failure, `lease_lost` nothing at all."""

    outcome: Literal["lease_lost", "canceled", "interrupted", "failed"]
    failure: JobFailure | None = None


_READING = frozenset({Stage.PLAN, Stage.VALIDATE})
"""Stages in which a stranger's tokenizer and texts are read, and nothing else."""
INTERRUPTED = Stop("interrupted")
_LEASE_LOST = Stop("lease_lost")
_CANCELED = Stop("canceled")


class LeaseKeeper:
    """Renews the lease of one job and says when it must stop."""

    def __init__(
        self,
        store: JobsOfWorkers,
        lease: Lease,
        workspace: Workspace,
        limits: Limits,
        *,
        memory_bytes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build the keeper of a lease; `memory_bytes` tells what the processes of the job have now."""
        self._store = store
        self._held = lease
        self._workspace = workspace
        self._limits = limits
        self._memory_bytes = memory_bytes
        self._planning_since: float | None = None
        self._clock = clock
        self._began = self._renewed = clock()

    def look(self) -> Stop | None:
        """Return why the job must stop, or None. Renews the lease and measures the disk at every heartbeat."""
        is_heartbeat = self._clock() - self._renewed >= self._limits.heartbeat_seconds
        stop = self._lease(is_heartbeat) or self._time() or self._plan() or self._memory()
        return stop if stop is not None or not is_heartbeat else self._disk()

    def _lease(self, is_heartbeat: bool) -> Stop | None:
        try:
            state = self._renew() if is_heartbeat else self._state()
        except StoreUnavailableError as error:
            silent = self._clock() - self._renewed
            _log.warning("lease_not_renewed", code=error.code, silent_seconds=round(silent, 1))
            # Past the lease another worker may have the job; its artifact must not meet ours.
            return _LEASE_LOST if silent >= self._limits.lease.total_seconds() else None
        if state is None:
            return _LEASE_LOST
        return _CANCELED if state is JobState.CANCELING else None

    def _renew(self) -> JobState | None:
        state = self._store.renew(self._held, lasts=self._limits.lease)
        self._renewed = self._clock()
        return state

    def _state(self) -> JobState | None:
        job = self._store.get(self._held.job_id)
        if job.stage not in _READING:
            self._planning_since = None
        elif self._planning_since is None:
            self._planning_since = self._clock()
        return job.state if job.attempt == self._held.attempt else None

    def _time(self) -> Stop | None:
        if self._clock() - self._began < self._limits.time_limit_seconds:
            return None
        hours = self._limits.time_limit_seconds / 3600
        message = f"The job ran longer than this worker allows ({hours:.3g} hours). Use a lighter recipe or a GPU."
        return Stop("failed", JobFailure(code="time_limit", message=message))

    def _plan(self) -> Stop | None:
        since = self._planning_since
        if since is None or self._clock() - since < self._limits.plan_seconds:
            return None
        message = (
            f"Reading the configuration, the tokenizer and the texts took more than {self._limits.plan_seconds:g} "
            "seconds, as files do that are made to keep a reader busy. Look at tokenizer.json."
        )
        return Stop("failed", JobFailure(code="plan_limit", message=message))

    def _memory(self) -> Stop | None:
        used = self._memory_bytes()
        if used <= self._limits.memory_budget_bytes:
            return None
        message = (
            f"The job took {size_words(used)} of memory; a job may take "
            f"{size_words(self._limits.memory_budget_bytes)} on this worker. Use a smaller "
            "calibration batch size, or a worker with more memory."
        )
        return Stop("failed", JobFailure(code="memory_budget", message=message))

    def _disk(self) -> Stop | None:
        used = self._workspace.size_bytes()
        if used <= self._limits.disk_budget_bytes:
            return None
        most = size_words(self._limits.disk_budget_bytes)
        message = f"The job took {size_words(used)} of scratch space; a job may take {most}."
        return Stop("failed", JobFailure(code="disk_budget", message=message))
