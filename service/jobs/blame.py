"""Whose fault a failed attempt was: its job's, which has few attempts, or its worker's, which costs the job none.

A machine that dies, a disk that is full and a database that is away say nothing about a job, so the attempt is given
back, as often as `MAX_GIVEN_BACK`: a job that outlives no machine at all must end too. A process that crashes may be
either; it is the job's fault when it crashes again and again at the same place.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from service.jobs.schema import TERMINAL_STATES, JobFailure
from service.platform.errors import StoreUnavailableError

WORKER_LOST = JobFailure(
    code="worker_lost",
    message="The worker stopped answering before the job was done. Submit it again, or look at the worker's memory.",
    retryable=True,
)
CRASH_CODE = "worker_crashed"
"""The job's process died; the message says how and where, and two crashes are the same when it is."""
WORKERS_OWN_CODES = frozenset({WORKER_LOST.code, "storage_exhausted", "workspace_busy", StoreUnavailableError.code})
"""Failures that would have met any job of that worker."""

MAX_GIVEN_BACK = 20
"""With the default lease a job waits at least 20 minutes for a machine that lives."""
MAX_SAME_CRASHES = 3
"""As many as a job has attempts by default."""


class Verdict(StrEnum):
    """What follows from a failure that may be repeated."""

    COUNTS = "counts"
    GIVEN_BACK = "given_back"
    FINAL = "final"


def verdict(failure: JobFailure, earlier: Sequence[JobFailure]) -> Verdict:
    """Return what follows from a failure, given those of the attempts before it."""
    if not _may_be_the_workers(failure):
        return Verdict.COUNTS
    is_poison = failure.code == CRASH_CODE and _count_same(failure, earlier) + 1 >= MAX_SAME_CRASHES
    if is_poison or sum(map(_may_be_the_workers, earlier)) >= MAX_GIVEN_BACK:
        return Verdict.FINAL
    return Verdict.GIVEN_BACK


def tries(failure: JobFailure | None, earlier: Sequence[JobFailure]) -> int:
    """Return how many attempts have failed of themselves, from 1: what a wait before the next one grows with."""
    if failure is None or _may_be_the_workers(failure):
        return 1
    return 1 + sum(not _may_be_the_workers(before) for before in earlier)


def failures_since_the_last_end(state_events: Iterable[dict[str, Any]]) -> list[JobFailure]:
    """Return the failures in the data of a job's `state` events, newest first; what an explicit retry left is old."""
    found = []
    for data in state_events:
        if data.get("state") in TERMINAL_STATES:
            break
        failure = data.get("failure")
        if isinstance(failure, dict):
            found.append(JobFailure(code=str(failure.get("code")), message=str(failure.get("message"))))
    return found


def _may_be_the_workers(failure: JobFailure) -> bool:
    return failure.code == CRASH_CODE or failure.code in WORKERS_OWN_CODES


def _count_same(failure: JobFailure, earlier: Sequence[JobFailure]) -> int:
    return sum((before.code, before.message) == (failure.code, failure.message) for before in earlier)
