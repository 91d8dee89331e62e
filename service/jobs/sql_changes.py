"""How a change of a job is written: the row, its event, its message, in the caller's transaction."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert
from sqlalchemy import update as sql_update

from service.jobs import tables
from service.jobs.policy import RetryPolicy
from service.jobs.rows import FIRST_SEQUENCE, changed_values, event_values
from service.jobs.schema import TERMINAL_STATES, EventKind, Job, JobEvent, JobState, Lease
from service.jobs.sql_statements import delete_messages, held_by, lock_held, read_job, replace_credential
from service.jobs.transitions import HELD_STATES, state_event, waits_before_next_attempt
from srr_core.recipe.stages import Stage

_JOBS = tables.jobs.c
CHECKPOINT = "checkpoint"
"""Stands in a notice where the others have a state."""


class ChangeWriter:
    """Writes changes of jobs whose rows the caller has locked."""

    def __init__(self, clock: Callable[[], datetime], retries: RetryPolicy) -> None:
        self._clock = clock
        self._retries = retries

    def change(self, connection: Connection, before: Job, after: Job, *, tries: int = 1) -> Job:
        """Store a job that has moved on, with its event, its message and what must be forgotten.

        Args:
            tries: How many attempts have failed of themselves; the wait before the next one grows with it.
        """
        if after.state is before.state:
            return after
        extra: dict[str, Any] = {}
        if after.state not in HELD_STATES:
            extra |= {"lease_owner": None, "lease_until": None}
        if after.state is JobState.QUEUED:
            extra |= {"queued_at": self._clock()}
        self.update(connection, before, after, **extra)
        self.announce(connection, after)
        if before.state is JobState.QUEUED:
            delete_messages(connection, after.id)
        if after.state in TERMINAL_STATES:
            replace_credential(connection, after.id, None)
        if after.state is JobState.QUEUED:
            waits = waits_before_next_attempt(after)
            self.send(connection, after, self._retries.delay(tries) if waits else timedelta(0))
        return after

    def update(self, connection: Connection, before: Job, after: Job, **extra: Any) -> None:
        """Store the columns two versions of a job differ in."""
        values = changed_values(before, after) | extra
        if values:
            connection.execute(sql_update(tables.jobs).where(_JOBS.id == before.id).values(values))

    def open(self, connection: Connection, job: Job) -> None:
        """Write what belongs to a job that was just inserted: its first event, a notice and its message."""
        self._insert_event(connection, job.id, FIRST_SEQUENCE, job.attempt, "state", state_event(job))
        self._notice(connection, job)
        self.send(connection, job, timedelta(0))

    def announce(self, connection: Connection, job: Job) -> None:
        """Append the `state` event of a job, and note that others are to be notified."""
        self.append(connection, job.id, job.attempt, "state", state_event(job))
        self._notice(connection, job)

    def tell(self, connection: Connection, lease: Lease, kind: EventKind, data: Mapping[str, Any]) -> JobEvent | None:
        """Append what the holder of a lease reports, or return None when it holds nothing; some is told to others."""
        if kind == CHECKPOINT:
            job = lock_held(connection, lease)
            if job is None:
                return None
            self._notice(connection, job, CHECKPOINT)
        # The number is taken under the fence: the job is neither read nor parsed for each of its layers.
        sequence = _next_number(connection, *held_by(lease))
        if sequence is None:
            return None
        return self._insert_event(connection, lease.job_id, sequence, lease.attempt, kind, data)

    def advance(self, connection: Connection, lease: Lease, *, stage: Stage, progress: float) -> bool:
        """Store how far the holder of a lease has come, with its event. Returns whether it holds the lease."""
        data = {"stage": str(stage), "progress": progress}
        sequence = _next_number(connection, *held_by(lease), updated_at=self._clock(), **data)
        if sequence is not None:
            self._insert_event(connection, lease.job_id, sequence, lease.attempt, "progress", data)
        return sequence is not None

    def _notice(self, connection: Connection, job: Job, what: str | None = None) -> None:
        notice = {"job_id": job.id, "owner": job.owner, "state": what or str(job.state), "attempt": job.attempt}
        connection.execute(insert(tables.job_notices).values(**notice, created_at=self._clock()))

    def append(
        self, connection: Connection, job_id: str, attempt: int, kind: EventKind, data: Mapping[str, Any]
    ) -> JobEvent | None:
        """Append an event, or return None when the attempt is no longer current."""
        sequence = _next_number(connection, _JOBS.id == job_id, _JOBS.attempt == attempt)
        if sequence is None:
            read_job(connection, job_id)
            return None
        return self._insert_event(connection, job_id, sequence, attempt, kind, data)

    def _insert_event(
        self,
        connection: Connection,
        job_id: str,
        sequence: int,
        attempt: int,
        kind: EventKind,
        data: Mapping[str, Any],
    ) -> JobEvent:
        event = JobEvent(
            job_id=job_id, sequence=sequence, attempt=attempt, kind=kind, data=dict(data), created_at=self._clock()
        )
        connection.execute(insert(tables.job_events).values(event_values(event)))
        return event

    def send(self, connection: Connection, job: Job, delay: timedelta) -> None:
        """Put a message for the broker into the outbox, due after a delay."""
        connection.execute(
            insert(tables.job_outbox).values(
                job_id=job.id, attempt=job.attempt, traceparent=job.traceparent, available_at=self._clock() + delay
            )
        )


def _next_number(connection: Connection, *fence: ColumnElement[bool], **more: Any) -> int | None:
    """Take the next number of a job's events, and store more of its columns, or None where the fence does not hold.

    The row of the job stays locked until the commit, so that numbers become visible in order.
    """
    number = sql_update(tables.jobs).where(*fence).values(last_sequence=_JOBS.last_sequence + 1, **more)
    return connection.execute(number.returning(_JOBS.last_sequence)).scalar_one_or_none()
