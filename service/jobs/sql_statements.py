"""Statements on the tables of jobs that several methods of the store share."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from service.jobs import tables
from service.jobs.blame import failures_since_the_last_end
from service.jobs.errors import IdempotencyConflictError, InvalidJobError, JobNotFoundError, ReportNotReadyError
from service.jobs.policy import IDEMPOTENCY_LIFETIME, USAGE_WINDOW
from service.jobs.ports import Admit
from service.jobs.rows import JOB_COLUMNS, job_from_row
from service.jobs.schema import Job, JobFailure, JobState, Lease, OutboxMessage, SealedSecret, Usage
from service.jobs.transitions import ATTACHABLE_STATES, HELD_STATES
from service.platform.limits import one_at_a_time

_JOBS = tables.jobs.c
_OUTBOX = tables.job_outbox.c
_EVENTS_READ = 200
"""States a job has been in lately: more than all attempts that are given back take."""
_HELD = tuple(sorted(str(state) for state in HELD_STATES))


def held_by(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """Return the fence: what must hold of a row for this worker's write to count."""
    return (
        _JOBS.id == lease.job_id,
        _JOBS.attempt == lease.attempt,
        _JOBS.lease_owner == lease.worker,
        _JOBS.state.in_(_HELD),
    )


def read_job(connection: Connection, job_id: str, *, lock: bool = False) -> Job:
    """Return a job, locked until the end of the transaction if asked for. Raises JobNotFoundError."""
    query = select(*JOB_COLUMNS).where(_JOBS.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise JobNotFoundError(f"no job has the id {job_id!r}")
    return job_from_row(row)


def read_report(connection: Connection, job_id: str) -> Mapping[str, Any]:
    """Return the report of a job that has succeeded. Raises JobNotFoundError, ReportNotReadyError."""
    query = select(tables.job_reports.c.report).where(tables.job_reports.c.job_id == job_id)
    report: Mapping[str, Any] | None = connection.execute(query).scalar_one_or_none()
    if report is None:
        state = read_job(connection, job_id).state
        raise ReportNotReadyError(f"job {job_id} is {state}; a report exists once it has succeeded")
    return report


def lock_held(connection: Connection, lease: Lease) -> Job | None:
    """Return a job this worker holds, locked, or None."""
    query = select(*JOB_COLUMNS).where(*held_by(lease)).with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else job_from_row(row)


def lock_owner(connection: Connection, owner: str) -> None:
    """Let one transaction at a time count the jobs of an owner."""
    one_at_a_time(connection, f"jobs of {owner}")


def require_room(connection: Connection, job: Job, admit: Admit | None, *, now: datetime) -> None:
    """Ask whether the owner of a job may have it, unless one that does the same work is there already."""
    if admit is not None and find_same_work(connection, job) is None:
        lock_owner(connection, job.owner)
        admit(usage_of(connection, job.owner, since=now - USAGE_WINDOW, now=now))


def has_room(connection: Connection, job: Job) -> bool:
    """Whether the owner of a job has fewer at work than it was submitted to wait for."""
    if job.max_running is None:
        return True
    lock_owner(connection, job.owner)
    held = select(func.count()).where(_JOBS.owner == job.owner, _JOBS.state.in_(_HELD))
    return connection.execute(held).scalar_one() < job.max_running


def earlier_failures(connection: Connection, job_id: str) -> list[JobFailure]:
    """Return why the attempts of a job failed since it ended last, newest first."""
    events = tables.job_events.c
    query = select(events.data).where(events.job_id == job_id, events.kind == "state").order_by(events.sequence.desc())
    return failures_since_the_last_end(connection.execute(query.limit(_EVENTS_READ)).scalars())


def count_before(connection: Connection, job_id: str) -> int | None:
    """Return how many queued jobs are before this one, or None when it is not queued. Raises JobNotFoundError."""
    row = connection.execute(select(_JOBS.state, _JOBS.queued_at).where(_JOBS.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFoundError(f"no job has the id {job_id!r}")
    if row.state != JobState.QUEUED:
        return None
    earlier = tuple_(_JOBS.queued_at, _JOBS.id) < tuple_(row.queued_at, job_id)
    query = select(func.count()).where(_JOBS.state == str(JobState.QUEUED), earlier)
    return connection.execute(query).scalar_one()


def insert_texts(connection: Connection, texts: Mapping[str, str]) -> None:
    """Store texts that are not stored yet."""
    column = tables.job_texts.c.sha256
    for digest, content in texts.items():
        if connection.execute(select(column).where(column == digest)).one_or_none() is None:
            _insert_unless_present(connection, {"sha256": digest, "utf8": content.encode()})


def _insert_unless_present(connection: Connection, values: Mapping[str, Any]) -> None:
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.job_texts).values(values))
    except IntegrityError:
        return  # another request stored the same text a moment ago


def replace_credential(connection: Connection, job_id: str, credential: SealedSecret | None) -> None:
    """Store the sealed token of a job in place of any earlier one."""
    connection.execute(delete(tables.job_credentials).where(tables.job_credentials.c.job_id == job_id))
    if credential is not None:
        insert_credential(connection, job_id, credential)


def insert_credential(connection: Connection, job_id: str, credential: SealedSecret) -> None:
    """Store the sealed token of a job that has none."""
    connection.execute(insert(tables.job_credentials).values(job_id=job_id, **credential.model_dump()))


def insert_tags(connection: Connection, job: Job) -> None:
    """Store the tags of a new job."""
    if job.tags:
        connection.execute(insert(tables.job_tags), [{"tag": tag, "job_id": job.id} for tag in dict.fromkeys(job.tags)])


def insert_report(connection: Connection, job_id: str, report: Mapping[str, Any]) -> None:
    """Store the report of a job that has just succeeded, which a job does once."""
    connection.execute(insert(tables.job_reports).values(job_id=job_id, report=dict(report)))


def delete_messages(connection: Connection, job_id: str) -> None:
    """Remove what was to be sent for a job that has left the queue."""
    connection.execute(delete(tables.job_outbox).where(tables.job_outbox.c.job_id == job_id))


def due_messages(connection: Connection, *, now: datetime, limit: int) -> list[OutboxMessage]:
    """Return messages that are due and not sent yet, oldest first."""
    query = (
        select(_OUTBOX.id, _OUTBOX.job_id, _OUTBOX.attempt, _OUTBOX.traceparent)
        .where(_OUTBOX.sent_at.is_(None), _OUTBOX.available_at <= now)
        .order_by(_OUTBOX.id)
        .limit(limit)
    )
    return [OutboxMessage(*row) for row in connection.execute(query)]


def resend_missing(connection: Connection, *, sent_before: datetime, in_broker: int) -> int:
    """Make the oldest messages due again, as many as were sent beyond those that wait in the broker."""
    sent = select(func.count()).select_from(tables.job_outbox).where(_OUTBOX.sent_at.is_not(None))
    missing = connection.execute(sent).scalar_one() - in_broker
    if missing <= 0:
        return 0
    oldest = select(_OUTBOX.id).where(_OUTBOX.sent_at < sent_before).order_by(_OUTBOX.id).limit(missing)
    return connection.execute(update(tables.job_outbox).where(_OUTBOX.id.in_(oldest)).values(sent_at=None)).rowcount


def note_sent(connection: Connection, outbox_ids: Sequence[int], *, now: datetime) -> None:
    """Write down that messages have reached the broker."""
    outbox = tables.job_outbox
    connection.execute(update(outbox).where(outbox.c.id.in_(outbox_ids)).values(sent_at=now))


def delete_expired(connection: Connection, *, now: datetime) -> int:
    """Delete sealed tokens that have expired and idempotency keys past their day."""
    keys, sealed = tables.idempotency_keys, tables.job_credentials
    old = connection.execute(delete(keys).where(keys.c.created_at <= now - IDEMPOTENCY_LIFETIME)).rowcount
    return old + connection.execute(delete(sealed).where(sealed.c.expires_at <= now)).rowcount


def insert_or_find(connection: Connection, job: Job, values: Mapping[str, Any]) -> Job | None:
    """Insert the row of a job, or return the job that does the same work already."""
    if job.content_key is None:
        connection.execute(insert(tables.jobs).values(values))
        return None
    # The conflict is left to the database: a savepoint around a plain insert would cost two more round trips.
    table = tables.jobs
    dialect_insert = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    unless_present = dialect_insert.values(values).on_conflict_do_nothing().returning(_JOBS.id)
    if connection.execute(unless_present).one_or_none() is not None:
        return None
    same = find_same_work(connection, job)
    if same is None:
        raise InvalidJobError(f"job {job.id} exists already, or the one that does the same work has just ended")
    return same


def find_same_work(connection: Connection, job: Job) -> Job | None:
    """Return another job of this owner that does, or has done, the same work."""
    if job.content_key is None:
        return None
    query = select(*JOB_COLUMNS).where(
        _JOBS.owner == job.owner,
        _JOBS.content_key == job.content_key,
        _JOBS.id != job.id,
        _JOBS.state.in_([str(state) for state in ATTACHABLE_STATES]),
    )
    row = connection.execute(query).first()
    return None if row is None else job_from_row(row)


def reserve_key(connection: Connection, job: Job, key: str, digest: str | None, now: datetime) -> str | None:
    """Bind an idempotency key to a job, or return the id of the job it made before.

    Raises:
        IdempotencyConflictError: it came before with another request.
    """
    keys = tables.idempotency_keys
    mine = {"owner": job.owner, "key": key, "request_digest": digest, "job_id": job.id, "created_at": now}
    try:
        with connection.begin_nested():
            connection.execute(insert(keys).values(mine))
            return None
    except IntegrityError:
        return find_key(connection, job.owner, key, digest)


def find_key(connection: Connection, owner: str, key: str, digest: str | None) -> str | None:
    """Return the id of the job an idempotency key is bound to, or None.

    Raises:
        IdempotencyConflictError: it came before with another request.
    """
    keys = tables.idempotency_keys.c
    query = select(keys.request_digest, keys.job_id).where(keys.owner == owner, keys.key == key)
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    if found.request_digest != digest:
        raise IdempotencyConflictError("this idempotency key came before with another request; use a new key")
    before: str = found.job_id
    return before


def redirect_key(connection: Connection, job: Job, key: str, job_id: str) -> None:
    """Bind an idempotency key to the job its request was answered with."""
    keys = tables.idempotency_keys
    connection.execute(update(keys).where(keys.c.owner == job.owner, keys.c.key == key).values(job_id=job_id))


def usage_of(connection: Connection, owner: str, *, since: datetime, now: datetime) -> Usage:
    """Return how many jobs an owner has, and how long those that were at work after `since` ran."""
    mine = _JOBS.owner == owner
    waiting = select(func.count()).where(mine, _JOBS.state == str(JobState.QUEUED))
    held = select(_JOBS.started_at).where(mine, _JOBS.state.in_(_HELD))
    ended = select(_JOBS.started_at, _JOBS.finished_at).where(
        mine, _JOBS.finished_at > since, _JOBS.started_at.is_not(None)
    )
    running = connection.execute(held).scalars().all()
    spans = [(started, now) for started in running]
    spans += [(row.started_at, row.finished_at) for row in connection.execute(ended)]
    return Usage(
        queued=connection.execute(waiting).scalar_one(),
        running=len(running),
        running_seconds=sum((until - max(began, since)).total_seconds() for began, until in spans),
    )
