"""Which state may follow which, and what a job looks like afterwards. Pure: no clock, no storage."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from service.jobs.blame import WORKER_LOST, Verdict, verdict
from service.jobs.errors import InvalidTransitionError, JobFinishedError, JobNotRetryableError
from service.jobs.schema import TERMINAL_STATES, Job, JobFailure, JobResult, JobState

_S = JobState

ALLOWED: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELED}),
        _S.RUNNING: frozenset({_S.PUBLISHING, _S.SUCCEEDED, _S.QUEUED, _S.CANCELING, _S.FAILED}),
        _S.PUBLISHING: frozenset({_S.SUCCEEDED, _S.QUEUED, _S.CANCELING, _S.FAILED}),
        _S.CANCELING: frozenset({_S.CANCELED, _S.SUCCEEDED}),
        _S.SUCCEEDED: frozenset(),
        _S.FAILED: frozenset({_S.QUEUED}),
        _S.CANCELED: frozenset({_S.QUEUED}),
    }
)
"""A finished job is only ever left by an explicit retry; a succeeded one never is."""

HELD_STATES = frozenset({_S.RUNNING, _S.PUBLISHING, _S.CANCELING})
"""States in which a worker holds a lease."""

ATTACHABLE_STATES = frozenset({_S.QUEUED, _S.RUNNING, _S.PUBLISHING, _S.SUCCEEDED})
"""States of a job that another request for the same work is answered with."""


def move(job: Job, state: JobState, *, now: datetime, **changes: Any) -> Job:
    """Return the job in its next state.

    Raises:
        InvalidTransitionError: the table does not allow it.
    """
    if state not in ALLOWED[job.state]:
        raise InvalidTransitionError(f"job {job.id} is {job.state}, which {state} may not follow")
    finished_at = now if state in TERMINAL_STATES else None
    return job.model_copy(update={"state": state, "updated_at": now, "finished_at": finished_at, **changes})


def after_claim(job: Job, *, now: datetime) -> Job:
    """Return the job as a worker starts it."""
    return move(job, _S.RUNNING, now=now, started_at=now, stage=None, progress=0.0, failure=None)


def after_success(job: Job, result: JobResult | None, *, now: datetime) -> Job:
    """Return the job with its result.

    One that was being canceled ends without its content key: another job may have been submitted for the same work.

    Args:
        result: What was published; None for work that publishes nothing, which ends without that state.
    Raises:
        InvalidTransitionError: something was published by a job that never said so.
    """
    if job.state is _S.RUNNING and result is not None:
        raise InvalidTransitionError(f"job {job.id} is running and cannot have published anything")
    key = None if job.state is _S.CANCELING else job.content_key
    return move(job, _S.SUCCEEDED, now=now, progress=1.0, result=result, has_report=True, content_key=key)


def after_failure(job: Job, failure: JobFailure, *, now: datetime, earlier: Sequence[JobFailure] = ()) -> Job:
    """Return the job after a failed attempt: queued again, failed, or canceled if that was asked for.

    A job that goes back to the queue keeps the failure, so that its page can say why it waits again.

    Args:
        earlier: Failures of the attempts before this one; `blame.py` says what follows from them.
    """
    if job.state is _S.CANCELING:
        return move(job, _S.CANCELED, now=now)
    judged = verdict(failure, earlier) if failure.retryable else Verdict.FINAL
    if judged is Verdict.GIVEN_BACK:
        return _queued_again(job, now=now, failure=failure, max_attempts=job.max_attempts + 1)
    if judged is Verdict.COUNTS and job.attempt < job.max_attempts:
        return _queued_again(job, now=now, failure=failure)
    return move(job, _S.FAILED, now=now, failure=failure)


def after_interruption(job: Job, *, now: datetime) -> Job:
    """Return the job after its worker was asked to stop: the job is not to blame and gets the attempt back."""
    if job.state is _S.CANCELING:
        return move(job, _S.CANCELED, now=now)
    return _queued_again(job, now=now, max_attempts=job.max_attempts + 1)


def after_cancel(job: Job, *, now: datetime) -> Job:
    """Return the job after a request to cancel it; asking twice is the same as asking once.

    Raises:
        JobFinishedError: it has ended.
    """
    if job.state in TERMINAL_STATES:
        raise JobFinishedError(f"job {job.id} has already {_ended(job.state)} and cannot be canceled")
    if job.state is _S.CANCELING:
        return job
    # With its content key, so that a retry is known to do the same work. No request is answered with it until then:
    # neither state is one of ATTACHABLE_STATES.
    return move(job, _S.CANCELED if job.state is _S.QUEUED else _S.CANCELING, now=now)


def after_retry(job: Job, *, now: datetime) -> Job:
    """Return the job queued as its next attempt, with one more attempt allowed than it has used.

    Raises:
        JobNotRetryableError: it has not ended, or it succeeded.
    """
    if _S.QUEUED not in ALLOWED[job.state] or job.state not in TERMINAL_STATES:
        raise JobNotRetryableError(f"job {job.id} is {job.state}; only a failed or canceled job can be retried")
    return _queued_again(job, now=now, max_attempts=max(job.max_attempts, job.attempt + 1), failure=None)


def _queued_again(job: Job, *, now: datetime, **changes: Any) -> Job:
    return move(job, _S.QUEUED, now=now, attempt=job.attempt + 1, stage=None, progress=0.0, started_at=None, **changes)


def _ended(state: JobState) -> str:
    return {"canceled": "been canceled"}.get(state, str(state))


def state_event(job: Job) -> dict[str, Any]:
    """Return what a `state` event tells about a job."""
    data: dict[str, Any] = {"state": str(job.state), "attempt": job.attempt}
    if job.failure is not None:
        data["failure"] = job.failure.model_dump(mode="json")
    if job.result is not None:
        data["result"] = job.result.model_dump(mode="json")
    return data


def waits_before_next_attempt(job: Job) -> bool:
    """Whether a job that was queued again should wait: yes after a failure of its own, no after a lost worker."""
    return job.failure is not None and job.failure != WORKER_LOST
