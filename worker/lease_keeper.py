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
    look_seconds: float = 1.0
    """How often a cancel is looked for; a cancel takes so long, plus what the core needs to finish a layer."""


@dataclass(frozen=True)
class Stop:
    """A child that must end, and what becomes of its job: `failed` has a failure, `lease_lost` nothing at all."""

    outcome: Literal["lease_lost", "canceled", "interrupted", "failed"]
    failure: JobFailure | None = None


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._held = lease
        self._workspace = workspace
        self._limits = limits
        self._clock = clock
        self._began = self._renewed = clock()

    def look(self) -> Stop | None:
        """Return why the job must stop, or None. Renews the lease and measures the disk at every heartbeat."""
        is_heartbeat = self._clock() - self._renewed >= self._limits.heartbeat_seconds
        stop = self._lease(is_heartbeat) or self._time()
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
        return job.state if job.attempt == self._held.attempt else None

    def _time(self) -> Stop | None:
        if self._clock() - self._began < self._limits.time_limit_seconds:
            return None
        hours = self._limits.time_limit_seconds / 3600
        message = f"The job ran longer than this worker allows ({hours:.3g} hours). Use a lighter recipe or a GPU."
        return Stop("failed", JobFailure(code="time_limit", message=message))

    def _disk(self) -> Stop | None:
        used = self._workspace.size_bytes()
        if used <= self._limits.disk_budget_bytes:
            return None
        message = f"The job took {used:,} bytes of scratch space; a job may take {self._limits.disk_budget_bytes:,}."
        return Stop("failed", JobFailure(code="disk_budget", message=message))
