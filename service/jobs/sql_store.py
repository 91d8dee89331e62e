"""Jobs in SQLite or PostgreSQL."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, select, text, update
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from service.jobs import tables
from service.jobs.blame import WORKER_LOST, tries
from service.jobs.errors import (
    InvalidTransitionError,
    JobNotRetryableError,
    TextNotFoundError,
)
from service.jobs.policy import ROOM_AGAIN, RetryPolicy
from service.jobs.ports import Admit, JobStore
from service.jobs.rows import (
    JOB_COLUMNS,
    changed_values,
    event_from_row,
    filter_conditions,
    job_from_row,
    new_job_values,
    unreadable_job,
)
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
from service.jobs.sql_changes import ChangeWriter
from service.jobs.sql_statements import (
    count_before,
    delete_expired,
    delete_messages,
    due_messages,
    earlier_failures,
    find_key,
    find_same_work,
    has_room,
    held_by,
    insert_credential,
    insert_or_find,
    insert_report,
    insert_tags,
    insert_texts,
    lock_held,
    note_sent,
    read_job,
    read_report,
    redirect_key,
    replace_credential,
    require_room,
    resend_missing,
    reserve_key,
    usage_of,
)
from service.jobs.transitions import (
    after_cancel,
    after_claim,
    after_failure,
    after_interruption,
    after_retry,
    after_success,
    move,
)
from service.platform.clock import utc_now
from service.platform.database import reading, writing
from service.platform.paging import decode_cursor, encode_cursor
from service.platform.stored import read_each
from srr_core.recipe.stages import Stage

_JOBS = tables.jobs.c
_OUTBOX = tables.job_outbox.c


class SqlJobStore(JobStore):
    """All ports of the jobs over a database that `migrate` has prepared.

    A job changes only while its row is locked, by `SELECT ... FOR UPDATE` on PostgreSQL and by the one
    writer SQLite allows; the claim, which many deliveries may race for, is a single compare-and-set.
    """

    def __init__(
        self, engine: Engine, *, clock: Callable[[], datetime] = utc_now, retries: RetryPolicy | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._writer = ChangeWriter(clock, retries or RetryPolicy())

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
        with writing(self._engine) as connection:
            if idempotency_key is not None:
                before = reserve_key(connection, job, idempotency_key, request_digest, self._clock())
                if before is not None:
                    return read_job(connection, before)
            require_room(connection, job, admit, now=self._clock())
            same = insert_or_find(connection, job, new_job_values(job, queued_at=self._clock()))
            if same is not None:
                if idempotency_key is not None:
                    redirect_key(connection, job, idempotency_key, same.id)
                return same
            insert_texts(connection, texts or {})
            insert_tags(connection, job)
            if credential is not None:
                insert_credential(connection, job.id, credential)
            self._writer.open(connection, job)
        return job

    @override
    def replayed(self, owner: str, idempotency_key: str, *, request_digest: str) -> Job | None:
        with reading(self._engine) as connection:
            job_id = find_key(connection, owner, idempotency_key, request_digest)
            return None if job_id is None else read_job(connection, job_id)

    @override
    def get(self, job_id: str) -> Job:
        with reading(self._engine) as connection:
            return read_job(connection, job_id)

    @override
    def text(self, sha256: str) -> str:
        query = select(tables.job_texts.c.utf8).where(tables.job_texts.c.sha256 == sha256)
        with reading(self._engine) as connection:
            utf8 = connection.execute(query).scalar_one_or_none()
        if utf8 is None:
            raise TextNotFoundError(f"no text with digest {sha256} is stored")
        return bytes(utf8).decode()

    @override
    def list(self, filter: JobFilter, *, limit: int, cursor: str | None = None) -> JobPage:
        query = select(*JOB_COLUMNS).where(*filter_conditions(filter)).order_by(_JOBS.id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(_JOBS.id < decode_cursor(cursor))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        page = rows[:limit]
        jobs, strange = read_each(page, job_from_row, what="job")
        return JobPage(
            jobs=tuple(jobs),
            unreadable=tuple(unreadable_job(row) for row in strange),
            next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None,
        )

    @override
    def queue_position(self, job_id: str) -> int | None:
        with reading(self._engine) as connection:
            return count_before(connection, job_id)

    @override
    def claim(self, job_id: str, attempt: int, *, worker: str, lasts: timedelta) -> Claim | None:
        now = self._clock()
        query = select(*JOB_COLUMNS).where(
            _JOBS.id == job_id, _JOBS.attempt == attempt, _JOBS.state == str(JobState.QUEUED)
        )
        with writing(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            before = job_from_row(row)
            if not has_room(connection, before):
                delete_messages(connection, job_id)
                self._writer.send(connection, before, ROOM_AGAIN)
                return None
            after = after_claim(before, now=now)
            swap = (
                update(tables.jobs)
                .where(_JOBS.id == job_id, _JOBS.attempt == attempt, _JOBS.state == str(JobState.QUEUED))
                .values(changed_values(before, after) | {"lease_owner": worker, "lease_until": now + lasts})
            )
            if connection.execute(swap).rowcount != 1:
                return None
            delete_messages(connection, job_id)
            self._writer.announce(connection, after)
            return Claim(after, Lease(job_id, attempt, worker))

    @override
    def renew(self, lease: Lease, *, lasts: timedelta) -> JobState | None:
        extend = (
            update(tables.jobs).where(*held_by(lease)).values(lease_until=self._clock() + lasts).returning(_JOBS.state)
        )
        with writing(self._engine) as connection:
            state = connection.execute(extend).scalar_one_or_none()
        return None if state is None else JobState(state)

    @override
    def progress(self, lease: Lease, *, stage: Stage, progress: float) -> bool:
        with writing(self._engine) as connection:
            return self._writer.advance(connection, lease, stage=stage, progress=progress)

    @override
    def resolve_source(self, lease: Lease, *, sha: str, reference_sha: str | None = None) -> bool:
        with writing(self._engine) as connection:
            before = lock_held(connection, lease)
            if before is None:
                return False
            work = before.work.at_commit(sha, reference_sha=reference_sha)
            after = before.model_copy(update={"work": work, "unchecked": ()})
            self._writer.update(connection, before, after)
            return True

    @override
    def credential(self, lease: Lease) -> SealedSecret | None:
        sealed = tables.job_credentials.c
        query = (
            select(sealed.ciphertext, sealed.expires_at)
            .join(tables.jobs, _JOBS.id == sealed.job_id)
            .where(*held_by(lease), sealed.expires_at > self._clock())
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else SealedSecret(ciphertext=bytes(row.ciphertext), expires_at=row.expires_at)

    @override
    def append_event(self, lease: Lease, kind: EventKind, data: Mapping[str, Any]) -> JobEvent | None:
        with writing(self._engine) as connection:
            return self._writer.tell(connection, lease, kind, data)

    @override
    def events(
        self, job_id: str, *, after: int = 0, limit: int = 500, kinds: Collection[EventKind] | None = None
    ) -> Sequence[JobEvent]:
        column = tables.job_events.c
        query = (
            select(tables.job_events)
            .where(column.job_id == job_id, column.sequence > after)
            .order_by(column.sequence)
            .limit(limit)
        )
        if kinds is not None:
            query = query.where(column.kind.in_(kinds))
        with reading(self._engine) as connection:
            found = tuple(event_from_row(row) for row in connection.execute(query))
            if not found:
                read_job(connection, job_id)
        return found

    @override
    def publishing(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: move(job, JobState.PUBLISHING, now=now, stage=Stage.PUBLISH))

    @override
    def succeed(self, lease: Lease, *, result: JobResult | None, report: Mapping[str, Any]) -> bool:
        return self._advance(
            lease,
            lambda job, now: after_success(job, result, now=now),
            lambda connection, job: insert_report(connection, job.id, report),
        )

    @override
    def fail(self, lease: Lease, failure: JobFailure) -> bool:
        with writing(self._engine) as connection:
            before = lock_held(connection, lease)
            if before is None:
                return False
            self._fail(connection, before, failure, now=self._clock())
            return True

    @override
    def requeue(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: after_interruption(job, now=now))

    @override
    def cancel(self, job_id: str) -> Job:
        with writing(self._engine) as connection:
            before = read_job(connection, job_id, lock=True)
            return self._writer.change(connection, before, after_cancel(before, now=self._clock()))

    @override
    def canceled(self, lease: Lease) -> bool:
        return self._advance(lease, lambda job, now: move(job, JobState.CANCELED, now=now))

    @override
    def retry(self, job_id: str, *, credential: SealedSecret | None = None, admit: Admit | None = None) -> Job:
        with writing(self._engine) as connection:
            before = read_job(connection, job_id, lock=True)
            require_room(connection, before, admit, now=self._clock())
            after = after_retry(before, now=self._clock())
            same = find_same_work(connection, before)
            if same is not None:
                raise JobNotRetryableError(f"job {same.id} does the same work already")
            after = after.model_copy(update={"brought_token": before.brought_token or credential is not None})
            try:
                self._writer.change(connection, before, after)
            except IntegrityError as error:  # somebody submitted it a moment ago; the unique index knows
                raise JobNotRetryableError("another job does the same work already") from error
            replace_credential(connection, job_id, credential)
            return after

    @override
    def report(self, job_id: str) -> Mapping[str, Any]:
        with reading(self._engine) as connection:
            return read_report(connection, job_id)

    @override
    def reap(self, *, now: datetime | None = None) -> Sequence[Job]:
        now = now or self._clock()
        with reading(self._engine) as connection:
            lost = connection.execute(select(_JOBS.id).where(_JOBS.lease_until < now)).all()
        reaped, _ = read_each(lost, lambda row: self._reap_one(row.id, now), what="lost_job")
        return [job for job in reaped if job is not None]

    @override
    def unsent(self, *, limit: int = 100) -> Sequence[OutboxMessage]:
        with reading(self._engine) as connection:
            return due_messages(connection, now=self._clock(), limit=limit)

    @override
    def mark_sent(self, outbox_ids: Sequence[int]) -> None:
        if not outbox_ids:
            return
        with writing(self._engine) as connection:
            note_sent(connection, outbox_ids, now=self._clock())

    @override
    def resend_lost(self, *, sent_before: datetime, in_broker: int) -> int:
        with writing(self._engine) as connection:
            return resend_missing(connection, sent_before=sent_before, in_broker=in_broker)

    @override
    def forget_expired(self, *, now: datetime | None = None) -> int:
        with writing(self._engine) as connection:
            return delete_expired(connection, now=now or self._clock())

    @override
    def usage(self, owner: str, *, since: datetime) -> Usage:
        with reading(self._engine) as connection:
            return usage_of(connection, owner, since=since, now=self._clock())

    @override
    def ping(self) -> None:
        with reading(self._engine) as connection:
            connection.execute(text("SELECT 1"))

    def _advance(
        self,
        lease: Lease,
        step: Callable[[Job, datetime], Job],
        also: Callable[[Connection, Job], None] | None = None,
    ) -> bool:
        with writing(self._engine) as connection:
            before = lock_held(connection, lease)
            if before is None:
                return False
            try:
                after = step(before, self._clock())
            except InvalidTransitionError:
                return False
            self._writer.change(connection, before, after)
            if also is not None:
                also(connection, after)
            return True

    def _reap_one(self, job_id: str, now: datetime) -> Job | None:
        with writing(self._engine) as connection:
            query = select(*JOB_COLUMNS).where(_JOBS.id == job_id, _JOBS.lease_until < now).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            return self._fail(connection, job_from_row(row), WORKER_LOST, now=now)

    def _fail(self, connection: Connection, before: Job, failure: JobFailure, *, now: datetime) -> Job:
        earlier = earlier_failures(connection, before.id)
        after = after_failure(before, failure, now=now, earlier=earlier)
        return self._writer.change(connection, before, after, tries=tries(failure, earlier))
