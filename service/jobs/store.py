"""The port behind which jobs live. The database is the truth; the broker only wakes workers up."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.jobs.schema import (
    EventKind,
    Job,
    JobEvent,
    JobFailure,
    JobFilter,
    JobPage,
    JobResult,
    JobState,
    OutboxMessage,
    SealedSecret,
    Usage,
)


class JobStore(Protocol):
    """Durable jobs, their events, texts, sealed tokens, reports and what is still to be sent.

    Every method is one transaction. Writes by a worker carry `attempt` and the `worker` that holds the
    lease, and change nothing when either is no longer current (fencing): they return None or False.
    """

    def add(
        self,
        job: Job,
        *,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        credential: SealedSecret | None = None,
    ) -> Job:
        """Insert a job, its texts, its first event and its outbox row.

        Returns another job instead when this key made one before, or when a job of this owner with the same
        `content_key` waits, runs or has succeeded.

        Raises:
            IdempotencyConflictError: the key was used by this owner with another request.
        """

    def replayed(self, owner: str, idempotency_key: str, *, request_digest: str) -> Job | None:
        """Return the job that this key led to, or None when it is new or its day is over.

        Raises:
            IdempotencyConflictError: the key was used by this owner with another request.
        """

    def get(self, job_id: str) -> Job:
        """Return a job, its texts by digest only. Raises JobNotFoundError."""

    def text(self, sha256: str) -> str:
        """Return a text that came with a job. Raises TextNotFoundError."""

    def list(self, filter: JobFilter, *, limit: int, cursor: str | None = None) -> JobPage:
        """Return one page, newest first. Raises InvalidCursorError."""

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs are before this one, or None when it is not queued."""

    def claim(self, job_id: str, attempt: int, *, worker: str, lease: timedelta) -> Job | None:
        """Move queued -> running under a lease, or return None: a second delivery stops here."""

    def renew(self, job_id: str, attempt: int, *, worker: str, lease: timedelta) -> JobState | None:
        """Extend the lease and return the state (canceling means stop), or None when it is lost."""

    def progress(self, job_id: str, attempt: int, *, worker: str, stage: str, progress: float) -> bool:
        """Record how far the attempt is, and append a `progress` event."""

    def resolve_source(self, job_id: str, attempt: int, *, worker: str, sha: str) -> bool:
        """Record the commit the revision was resolved to."""

    def credential(self, job_id: str, attempt: int, *, worker: str) -> SealedSecret | None:
        """Return the sealed Hub token of a job this worker holds, if it has one and it has not expired."""

    def append_event(
        self, job_id: str, attempt: int, kind: EventKind, data: Mapping[str, Any], *, worker: str | None = None
    ) -> JobEvent | None:
        """Append one event; its sequence number is the next of the job.

        Returns None when the attempt is no longer current, or `worker` is given and does not hold the lease.
        """

    def events(
        self, job_id: str, *, after: int = 0, limit: int = 500, kinds: Collection[EventKind] | None = None
    ) -> Sequence[JobEvent]:
        """Return events with a sequence above `after`, in order; only those of `kinds` if given."""

    def publishing(self, job_id: str, attempt: int, *, worker: str) -> bool:
        """Move running -> publishing; False when the attempt was canceled or lost meanwhile."""

    def succeed(self, job_id: str, attempt: int, *, worker: str, result: JobResult, report: Mapping[str, Any]) -> bool:
        """Move publishing -> succeeded and keep the report.

        Also from canceling: the commit is on the Hub by then, and saying "canceled" would be untrue.
        """

    def fail(self, job_id: str, attempt: int, *, worker: str, failure: JobFailure) -> bool:
        """Move to failed, or back to queued with the next attempt when retryable and attempts remain."""

    def requeue(self, job_id: str, attempt: int, *, worker: str) -> bool:
        """Give the job back because this worker stops; the next attempt does not count against the job."""

    def cancel(self, job_id: str) -> Job:
        """Queued becomes canceled at once, running and publishing become canceling. Raises
        JobNotFoundError, JobFinishedError.
        """

    def canceled(self, job_id: str, attempt: int, *, worker: str) -> bool:
        """Move canceling -> canceled, once the worker has stopped."""

    def retry(self, job_id: str, *, credential: SealedSecret | None = None) -> Job:
        """Queue a failed or canceled job again as its next attempt. Raises JobNotFoundError, JobNotRetryableError."""

    def report(self, job_id: str) -> Mapping[str, Any]:
        """Return the report of a succeeded job. Raises JobNotFoundError, ReportNotReadyError."""

    def reap(self, *, now: datetime | None = None) -> Sequence[Job]:
        """Requeue (next attempt) or fail (worker_lost) every job whose lease ran out; finish canceling ones."""

    def unsent(self, *, limit: int = 100) -> Sequence[OutboxMessage]:
        """Return messages that are due and not sent yet, oldest first."""

    def mark_sent(self, outbox_ids: Sequence[int]) -> None:
        """Record that these messages were handed to the broker."""

    def resend_lost(self, *, sent_before: datetime) -> int:
        """Make the messages of jobs that are still queued, sent before this time, due again; return how many.

        Call it only when the broker's queue is empty: a broker that was wiped would otherwise lose the job.
        """

    def forget_expired(self, *, now: datetime | None = None) -> int:
        """Delete expired sealed tokens and idempotency keys past their day; return how many rows went."""

    def usage(self, owner: str, *, since: datetime) -> Usage:
        """Return how many jobs an owner has, and how long jobs that were at work after `since` ran."""

    def ping(self) -> None:
        """Raise StoreUnavailableError when the database does not answer."""
