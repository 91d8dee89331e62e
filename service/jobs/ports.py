"""The ports behind which jobs live, one for each kind of user. The database is the truth, the broker only wakes.

Every method is one transaction. One adapter stands behind all of them: `SqlJobStore`, and `MemoryJobStore` for tests.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.jobs.schema import (
    Claim,
    EventKind,
    Job,
    JobEvent,
    JobFailure,
    JobFilter,
    JobPage,
    JobResult,
    JobState,
    Lease,
    OutboxMessage,
    SealedSecret,
    Usage,
)
from srr_core.recipe.stages import Stage


class JobReading(Protocol):
    """Looking at jobs and at what belongs to them."""

    def get(self, job_id: str) -> Job:
        """Return a job, its texts by digest only. Raises JobNotFoundError, UnreadableError."""

    def text(self, sha256: str) -> str:
        """Return a text that came with a job. Raises TextNotFoundError."""

    def list(self, filter: JobFilter, *, limit: int, cursor: str | None = None) -> JobPage:
        """Return one page, newest first; a job that cannot be read stands apart in it. Raises InvalidCursorError."""

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs are before this one, or None when it is not queued. Raises JobNotFoundError."""

    def report(self, job_id: str) -> Mapping[str, Any]:
        """Return the report of a succeeded job. Raises JobNotFoundError, ReportNotReadyError."""

    def events(
        self, job_id: str, *, after: int = 0, limit: int = 500, kinds: Collection[EventKind] | None = None
    ) -> Sequence[JobEvent]:
        """Return events with a sequence above `after`, in order; only those of `kinds` if given.

        Raises:
            JobNotFoundError: there is no such job.
        """

    def usage(self, owner: str, *, since: datetime) -> Usage:
        """Return how many jobs an owner has, and how long jobs that were at work after `since` ran."""

    def ping(self) -> None:
        """Raise StoreUnavailableError when the database does not answer."""


Admit = Callable[[Usage], None]
"""Raises unless an owner who has this may have one more job."""


class JobSubmissions(Protocol):
    """What callers do to jobs."""

    def add(
        self,
        job: Job,
        *,
        texts: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        credential: SealedSecret | None = None,
        admit: Admit | None = None,
    ) -> Job:
        """Insert a job, its texts by their digests, its first event and its outbox row.

        Args:
            admit: Asked with what the owner has by then, one submission of an owner at a time; what it raises is
                raised, and nothing is inserted.

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

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job: queued becomes canceled at once, running and publishing become canceling.

        Raises:
            JobNotFoundError, JobFinishedError: as their names say.
        """

    def retry(self, job_id: str, *, credential: SealedSecret | None = None, admit: Admit | None = None) -> Job:
        """Queue a failed or canceled job again as its next attempt, if `admit` lets it.

        Raises:
            JobNotFoundError, JobNotRetryableError: as their names say; also when another job does the same work by now.
        """


class JobAttempts(Protocol):
    """What a worker does with the job it holds.

    Every write takes the lease and changes nothing when that is no longer current (fencing): it returns None or False.
    """

    def claim(self, job_id: str, attempt: int, *, worker: str, lasts: timedelta) -> Claim | None:
        """Move queued -> running under a lease, or return None: a second delivery stops here.

        Also None, and the job is offered again later, while its owner has `max_running` others at work.
        """

    def renew(self, lease: Lease, *, lasts: timedelta) -> JobState | None:
        """Extend the lease and return the state (canceling means stop), or None when it is lost."""

    def progress(self, lease: Lease, *, stage: Stage, progress: float) -> bool:
        """Record how far the attempt is, and append a `progress` event."""

    def resolve_source(self, lease: Lease, *, sha: str, reference_sha: str | None = None) -> bool:
        """Record the commit the revision was resolved to, and that of the model it is compared with.

        With it that everything has been checked.
        """

    def credential(self, lease: Lease) -> SealedSecret | None:
        """Return the sealed Hub token of the job, if it has one and it has not expired."""

    def append_event(self, lease: Lease, kind: EventKind, data: Mapping[str, Any]) -> JobEvent | None:
        """Append one event; its sequence number is the next of the job."""

    def publishing(self, lease: Lease) -> bool:
        """Move running -> publishing; False when the attempt was canceled or lost meanwhile."""

    def succeed(self, lease: Lease, *, result: JobResult | None, report: Mapping[str, Any]) -> bool:
        """Move publishing, or running where nothing is published, -> succeeded and keep the report.

        Also from canceling: the commit is on the Hub by then, and saying "canceled" would be untrue.
        """

    def fail(self, lease: Lease, failure: JobFailure) -> bool:
        """Move to failed, or back to queued with the next attempt when retryable and attempts remain."""

    def requeue(self, lease: Lease) -> bool:
        """Give the job back because this worker stops; the next attempt does not count against the job."""

    def canceled(self, lease: Lease) -> bool:
        """Move canceling -> canceled, once the worker has stopped."""


class JobOutbox(Protocol):
    """What is still to be sent to the broker."""

    def unsent(self, *, limit: int = 100) -> Sequence[OutboxMessage]:
        """Return messages that are due and not sent yet, oldest first."""

    def mark_sent(self, outbox_ids: Sequence[int]) -> None:
        """Record that these messages were handed to the broker."""

    def resend_lost(self, *, sent_before: datetime, in_broker: int) -> int:
        """Make messages of jobs that are still queued due again, and return how many.

        Args:
            sent_before: Only messages that were sent before this time, the oldest first.
            in_broker: How many messages wait in the broker. As many as were sent beyond that are missing.
        """


class JobHousekeeping(Protocol):
    """What is done at intervals."""

    def reap(self, *, now: datetime | None = None) -> Sequence[Job]:
        """Requeue (next attempt) or fail (worker_lost) every job whose lease has expired; finish canceling ones.

        A job that this version cannot read is left to one that can.
        """

    def forget_expired(self, *, now: datetime | None = None) -> int:
        """Delete expired sealed tokens and idempotency keys past their day; return how many rows went."""


class JobStore(JobReading, JobSubmissions, JobAttempts, JobOutbox, JobHousekeeping, Protocol):
    """Everything at once, for composition roots."""


class JobsOfCallers(JobReading, JobSubmissions, Protocol):
    """What the HTTP edges need."""


class JobsOfWorkers(JobReading, JobAttempts, Protocol):
    """What a worker needs."""
