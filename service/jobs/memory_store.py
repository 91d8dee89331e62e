"""Jobs in this process's memory: for tests and for trying things out. Same contract as the database."""

import itertools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from service.jobs.blame import WORKER_LOST, failures_since_the_last_end, tries
from service.jobs.errors import (
    IdempotencyConflictError,
    InvalidTransitionError,
    JobNotFoundError,
    JobNotRetryableError,
    ReportNotReadyError,
    TextNotFoundError,
)
from service.jobs.memory_rows import Message, Row, has_room, matches, usage_of
from service.jobs.policy import IDEMPOTENCY_LIFETIME, ROOM_AGAIN, USAGE_WINDOW, RetryPolicy
from service.jobs.ports import Admit, JobStore
from service.jobs.schema import (
    TERMINAL_STATES,
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
from service.jobs.transitions import (
    ATTACHABLE_STATES,
    HELD_STATES,
    after_cancel,
    after_claim,
    after_failure,
    after_interruption,
    after_retry,
    after_success,
    move,
    state_event,
    waits_before_next_attempt,
)
from service.platform.clock import utc_now
from service.platform.paging import decode_cursor, encode_cursor
from srr_core.recipe.stages import Stage


class MemoryJobStore(JobStore):
    """All ports of the jobs over a dictionary that forgets everything when the process ends."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now, retries: RetryPolicy | None = None) -> None:
        self._clock = clock
        self._retries = retries or RetryPolicy()
        self._lock = threading.RLock()
        self._rows: dict[str, Row] = {}
        self._texts: dict[str, str] = {}
        self._messages: dict[int, Message] = {}
        self._message_ids = itertools.count(1)
        self._keys: dict[tuple[str, str], tuple[str | None, str, datetime]] = {}

    @override
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
        with self._lock:
            if idempotency_key is not None:
                key = (job.owner, idempotency_key)
                before = self._keys.get(key, (request_digest, job.id, self._clock()))
                if before[0] != request_digest:
                    raise IdempotencyConflictError(
                        "this idempotency key came before with another request; use a new key"
                    )
                if before[1] != job.id:
                    return self.get(before[1])
            same = self._same_work(job)
            if same is not None:
                if idempotency_key is not None:
                    self._keys[job.owner, idempotency_key] = (request_digest, same.id, self._clock())
                return same
            self._admit(job, admit)
            self._texts.update(texts or {})
            self._rows[job.id] = Row(job, queued_at=self._clock(), credential=credential)
            if idempotency_key is not None:
                self._keys[job.owner, idempotency_key] = (request_digest, job.id, self._clock())
            self._announce(self._rows[job.id])
            self._send(job, timedelta(0))
            return job

    @override
    def replayed(self, owner: str, idempotency_key: str, *, request_digest: str) -> Job | None:
        with self._lock:
            digest, job_id, _ = self._keys.get((owner, idempotency_key), (request_digest, "", None))
            if digest != request_digest:
                raise IdempotencyConflictError("this idempotency key came before with another request; use a new key")
            return self.get(job_id) if job_id else None

    @override
    def get(self, job_id: str) -> Job:
        return self._row(job_id).job

    @override
    def text(self, sha256: str) -> str:
        with self._lock:
            if sha256 not in self._texts:
                raise TextNotFoundError(f"no text with digest {sha256} is stored")
            return self._texts[sha256]

    @override
    def list(self, filter: JobFilter, *, limit: int, cursor: str | None = None) -> JobPage:
        before = decode_cursor(cursor) if cursor else None
        with self._lock:
            found = sorted((row.job for row in self._rows.values() if matches(row.job, filter)), key=lambda job: job.id)
        rest = [job for job in reversed(found) if before is None or job.id < before]
        page = tuple(rest[:limit])
        return JobPage(jobs=page, next_cursor=encode_cursor(page[-1].id) if len(rest) > limit else None)

    @override
    def queue_position(self, job_id: str) -> int | None:
        with self._lock:
            row = self._row(job_id)
            if row.job.state is not JobState.QUEUED:
                return None
            waiting = [other for other in self._rows.values() if other.job.state is JobState.QUEUED]
            return sum((other.queued_at, other.job.id) < (row.queued_at, job_id) for other in waiting)

    @override
    def claim(self, job_id: str, attempt: int, *, worker: str, lasts: timedelta) -> Claim | None:
        with self._lock:
            row = self._rows.get(job_id)
            if row is None or row.job.state is not JobState.QUEUED or row.job.attempt != attempt:
                return None
            if not has_room(row.job, self._rows.values()):
                self._send(row.job, ROOM_AGAIN)
                return None
            row.lease_owner, row.lease_until = worker, self._clock() + lasts
            self._change(row, after_claim(row.job, now=self._clock()))
            return Claim(row.job, Lease(job_id, attempt, worker))

    @override
    def renew(self, lease: Lease, *, lasts: timedelta) -> JobState | None:
        with self._lock:
            row = self._held(lease)
            if row is None:
                return None
            row.lease_until = self._clock() + lasts
            return row.job.state

    @override
    def progress(self, lease: Lease, *, stage: Stage, progress: float) -> bool:
        with self._lock:
            row = self._held(lease)
            if row is None:
                return False
            row.job = row.job.model_copy(update={"stage": stage, "progress": progress, "updated_at": self._clock()})
            self._append(row, "progress", {"stage": str(stage), "progress": progress})
            return True

    @override
    def resolve_source(self, lease: Lease, *, sha: str, reference_sha: str | None = None) -> bool:
        with self._lock:
            row = self._held(lease)
            if row is None:
                return False
            work = row.job.work.at_commit(sha, reference_sha=reference_sha)
            row.job = row.job.model_copy(update={"work": work, "unchecked": ()})
            return True

    @override
    def credential(self, lease: Lease) -> SealedSecret | None:
        with self._lock:
            row = self._held(lease)
            sealed = row.credential if row else None
            return sealed if sealed is not None and sealed.expires_at > self._clock() else None

    @override
    def append_event(self, lease: Lease, kind: EventKind, data: Mapping[str, Any]) -> JobEvent | None:
        with self._lock:
            row = self._held(lease)
            return None if row is None else self._append(row, kind, data)

    @override
    def events(
        self, job_id: str, *, after: int = 0, limit: int = 500, kinds: Collection[EventKind] | None = None
    ) -> Sequence[JobEvent]:
        with self._lock:
            later = self._row(job_id).events[after:]
            return tuple(event for event in later if kinds is None or event.kind in kinds)[:limit]

    @override
    def publishing(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: move(job, JobState.PUBLISHING, now=now, stage=Stage.PUBLISH))

    @override
    def succeed(self, lease: Lease, *, result: JobResult | None, report: Mapping[str, Any]) -> bool:
        with self._lock:
            row = self._held(lease)
            if row is None:
                return False
            row.report = dict(report)
            return self._advance(
                lease,
                lambda job, now: after_success(job, result, now=now),
            )

    @override
    def fail(self, lease: Lease, failure: JobFailure) -> bool:
        with self._lock:
            row = self._held(lease)
            if row is not None:
                self._fail(row, failure, now=self._clock())
            return row is not None

    @override
    def requeue(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: after_interruption(job, now=now))

    @override
    def cancel(self, job_id: str) -> Job:
        with self._lock:
            row = self._row(job_id)
            self._change(row, after_cancel(row.job, now=self._clock()))
            return row.job

    @override
    def canceled(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: move(job, JobState.CANCELED, now=now))

    @override
    def retry(self, job_id: str, *, credential: SealedSecret | None = None, admit: Admit | None = None) -> Job:
        with self._lock:
            row = self._row(job_id)
            self._admit(row.job, admit)
            after = after_retry(row.job, now=self._clock())
            same = self._same_work(row.job)
            if same is not None:
                raise JobNotRetryableError(f"job {same.id} does the same work already")
            after = after.model_copy(update={"brought_token": row.job.brought_token or credential is not None})
            self._change(row, after)
            row.credential = credential
            return row.job

    @override
    def report(self, job_id: str) -> Mapping[str, Any]:
        row = self._row(job_id)
        if row.report is None or not row.job.has_report:
            raise ReportNotReadyError(f"job {job_id} is {row.job.state}; a report exists once it has succeeded")
        return row.report

    @override
    def reap(self, *, now: datetime | None = None) -> Sequence[Job]:
        now = now or self._clock()
        with self._lock:
            lost = [row for row in self._rows.values() if row.lease_until is not None and row.lease_until < now]
            for row in lost:
                self._fail(row, WORKER_LOST, now=now)
            return [row.job for row in lost]

    @override
    def unsent(self, *, limit: int = 100) -> Sequence[OutboxMessage]:
        with self._lock:
            due = [
                OutboxMessage(number, message.job_id, message.attempt, self._row(message.job_id).job.traceparent)
                for number, message in self._messages.items()
                if message.sent_at is None and message.available_at <= self._clock()
            ]
            return due[:limit]

    @override
    def mark_sent(self, outbox_ids: Sequence[int]) -> None:
        with self._lock:
            for number in outbox_ids:
                if number in self._messages:
                    self._messages[number].sent_at = self._clock()

    @override
    def resend_lost(self, *, sent_before: datetime, in_broker: int) -> int:
        with self._lock:
            sent = [message for message in self._messages.values() if message.sent_at is not None]
            old = [message for message in sent if message.sent_at is not None and message.sent_at < sent_before]
            lost = old[: max(0, len(sent) - in_broker)]
            for message in lost:
                message.sent_at = None
            return len(lost)

    @override
    def forget_expired(self, *, now: datetime | None = None) -> int:
        now = now or self._clock()
        with self._lock:
            old_keys = [key for key, (_, _, made) in self._keys.items() if made + IDEMPOTENCY_LIFETIME <= now]
            for key in old_keys:
                del self._keys[key]
            stale = [row for row in self._rows.values() if row.credential and row.credential.expires_at <= now]
            for row in stale:
                row.credential = None
            return len(old_keys) + len(stale)

    @override
    def usage(self, owner: str, *, since: datetime) -> Usage:
        with self._lock:
            mine = [row.job for row in self._rows.values() if row.job.owner == owner]
        return usage_of(mine, since=since, now=self._clock())

    @override
    def ping(self) -> None:
        return

    def _admit(self, job: Job, admit: Admit | None) -> None:
        if admit is not None and self._same_work(job) is None:
            admit(self.usage(job.owner, since=self._clock() - USAGE_WINDOW))

    def _same_work(self, job: Job) -> Job | None:
        if job.content_key is None:
            return None
        for row in self._rows.values():
            is_alike = row.job.owner == job.owner and row.job.content_key == job.content_key
            if is_alike and row.job.id != job.id and row.job.state in ATTACHABLE_STATES:
                return row.job
        return None

    def _row(self, job_id: str) -> Row:
        with self._lock:
            if job_id not in self._rows:
                raise JobNotFoundError(f"no job has the id {job_id!r}")
            return self._rows[job_id]

    def _held(self, lease: Lease) -> Row | None:
        row = self._rows.get(lease.job_id)
        if row is None or row.job.state not in HELD_STATES:
            return None
        return row if (row.job.attempt, row.lease_owner) == (lease.attempt, lease.worker) else None

    def _advance(self, lease: Lease, step: Callable[[Job, datetime], Job]) -> bool:
        with self._lock:
            row = self._held(lease)
            if row is None:
                return False
            try:
                self._change(row, step(row.job, self._clock()))
            except InvalidTransitionError:
                return False
            return True

    def _fail(self, row: Row, failure: JobFailure, *, now: datetime) -> None:
        earlier = failures_since_the_last_end(event.data for event in reversed(row.events) if event.kind == "state")
        self._change(row, after_failure(row.job, failure, now=now, earlier=earlier), tries=tries(failure, earlier))

    def _change(self, row: Row, after: Job, *, tries: int = 1) -> None:
        before, row.job = row.job, after
        if after.state is before.state:
            return
        if after.state not in HELD_STATES:
            row.lease_owner = row.lease_until = None
        if after.state in TERMINAL_STATES:
            row.credential = None
        self._announce(row)
        if before.state is JobState.QUEUED:
            self._messages = {number: kept for number, kept in self._messages.items() if kept.job_id != after.id}
        if after.state is JobState.QUEUED:
            row.queued_at = self._clock()
            waits = waits_before_next_attempt(after)
            self._send(after, self._retries.delay(tries) if waits else timedelta(0))

    def _announce(self, row: Row) -> None:
        self._append(row, "state", state_event(row.job))

    def _append(self, row: Row, kind: EventKind, data: Mapping[str, Any]) -> JobEvent:
        event = JobEvent(
            job_id=row.job.id,
            sequence=len(row.events) + 1,
            attempt=row.job.attempt,
            kind=kind,
            data=dict(data),
            created_at=self._clock(),
        )
        row.events.append(event)
        return event

    def _send(self, job: Job, delay: timedelta) -> None:
        self._messages[next(self._message_ids)] = Message(job.id, job.attempt, self._clock() + delay)
