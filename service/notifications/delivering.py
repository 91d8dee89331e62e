"""From changes of jobs to messages, and from messages to receivers: tried again for days, then given up."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, delete, insert, select

from service.jobs import tables
from service.jobs.credentials import CredentialVault
from service.jobs.errors import CredentialError
from service.jobs.schema import Job
from service.jobs.sql_changes import CHECKPOINT
from service.jobs.sql_statements import read_job
from service.notifications.endpoints import open_secrets
from service.notifications.errors import EndpointNotFoundError
from service.notifications.judging import judge
from service.notifications.messages import checkpoint_payload, job_payload, message_to
from service.notifications.schema import Attempt, Delivery, DeliveryState, Endpoint
from service.notifications.sending import Outcome, Send
from service.notifications.store import NotificationStore, delivery_values
from service.notifications.tables import deliveries
from service.platform.clock import utc_now
from service.platform.database import writing
from service.platform.errors import StoreUnavailableError, UnreadableError

_log = structlog.get_logger(__name__)

_S, _M, _H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RETRY_AFTER = (5 * _S, 5 * _M, 30 * _M, 2 * _H, 5 * _H, 10 * _H, 14 * _H, 20 * _H, 24 * _H)
"""Waits after the first, second, ... try, about three days in all. Source: Standard Webhooks, recommended schedule."""
_JITTER = 0.2
_CLAIM = timedelta(minutes=2)
"""Longer than a try can take; a message whose sender died is sent again after it."""
_BATCH = 32
_NOTICES = 500
_SENDERS = 8


@dataclass(frozen=True)
class DeliveryContext:
    """What sending works with."""

    store: NotificationStore
    vault: CredentialVault
    send: Send
    base_url: str
    """Where this service is reached from outside, for the links in messages."""
    clock: Callable[[], datetime] = utc_now
    random: Callable[[], float] = random.random


def write_messages(context: DeliveryContext) -> int:
    """Turn the changes of jobs without a notification into messages, and return how many. A periodic duty.

    A change is taken away in the transaction that writes its messages: each is told once, whoever does it.
    """
    written = 0
    with writing(context.store.engine) as connection:
        query = (
            select(tables.job_notices)
            .order_by(tables.job_notices.c.id)
            .limit(_NOTICES)
            .with_for_update(skip_locked=True)
        )
        notices = connection.execute(query).all()
        wanted = context.store.list() if notices else []
        latest = {notice.job_id: notice.id for notice in notices if notice.state == CHECKPOINT}
        for notice in notices:
            if notice.state == CHECKPOINT and notice.id != latest[notice.job_id]:
                continue  # a fast training makes many in a round, and the last one says it all
            for endpoint in wanted:
                is_for_it = endpoint.owner == notice.owner and f"job.{notice.state}" in endpoint.types
                if is_for_it and endpoint.enabled:
                    job = _readable_job(connection, notice.job_id)
                    if job is None:
                        continue
                    payload = _payload(connection, job, notice, context)
                    message = message_to(endpoint.id, payload, now=context.clock())
                    connection.execute(insert(deliveries).values(delivery_values(message)))
                    written += 1
        ids = [notice.id for notice in notices]
        connection.execute(delete(tables.job_notices).where(tables.job_notices.c.id.in_(ids)))
    return written


def _payload(connection: Connection, job: Job, notice: Any, context: DeliveryContext) -> dict[str, Any]:
    if notice.state != CHECKPOINT:
        return job_payload(job, state=notice.state, at=notice.created_at, base_url=context.base_url)
    column = tables.job_events.c
    told = select(column.data).where(column.job_id == job.id, column.kind == CHECKPOINT)
    data = connection.execute(told.order_by(column.sequence.desc()).limit(1)).scalar_one()
    return checkpoint_payload(job, data, at=notice.created_at, base_url=context.base_url)


def _readable_job(connection: Connection, job_id: str) -> Job | None:
    """Return a job, or None for one that this version cannot read: nothing is said of it, and the others are told."""
    try:
        return read_job(connection, job_id)
    except UnreadableError as error:
        _log.error("row_unreadable", what="job", id=job_id, reason=str(error))
        return None


def send_messages(context: DeliveryContext) -> int:
    """Try every message that is due once, and return how many were taken. A periodic duty.

    Slow receivers make it slow: run it in a thread of its own, not with the duties of the jobs.
    """
    taken = 0
    with ThreadPoolExecutor(_SENDERS, thread_name_prefix="webhook") as pool:
        while True:
            now = context.clock()
            due = context.store.claim_due(now=now, until=now + _CLAIM, limit=_BATCH)
            taken += sum(pool.map(lambda delivery: _try_alone(delivery, context), due))
            if len(due) < _BATCH:
                return taken


def _try_alone(delivery: Delivery, context: DeliveryContext) -> bool:
    try:
        return _try(delivery, context)
    except StoreUnavailableError:
        raise  # about all messages: the round is postponed
    except Exception as error:  # noqa: BLE001  # the edge of one message: the others of the round go out
        _log.error("delivery_not_tried", delivery_id=delivery.id, exc_info=error)
        return False


def _try(delivery: Delivery, context: DeliveryContext) -> bool:
    try:
        endpoint = context.store.get(delivery.endpoint_id)
        if not endpoint.enabled:  # since the message was taken
            context.store.put_back(delivery, due_at=context.clock())
            return False
        outcome = _send(endpoint, delivery, context)
    except EndpointNotFoundError:
        return False  # deleted a moment ago, and the message with it
    now = context.clock()
    attempt = Attempt(
        delivery_id=delivery.id,
        number=delivery.attempts,
        at=now,
        status=outcome.status,
        error=outcome.error,
        seconds=outcome.seconds,
    )
    context.store.record(_after(delivery, outcome, now, context.random), attempt)
    judge(endpoint, delivery, outcome, store=context.store, base_url=context.base_url, now=now)
    return outcome.is_delivered


def _send(endpoint: Endpoint, delivery: Delivery, context: DeliveryContext) -> Outcome:
    try:
        secrets = open_secrets(context.store.secrets(endpoint.id), context.vault, now=context.clock())
    except CredentialError as error:  # the key of this installation was lost; the owner has to rotate the secret
        return Outcome(None, str(error), 0.0)
    return context.send(endpoint, delivery, secrets, context.clock())


def _after(delivery: Delivery, outcome: Outcome, now: datetime, jitter: Callable[[], float]) -> Delivery:
    if outcome.is_delivered:
        return delivery.model_copy(update={"state": DeliveryState.DELIVERED, "finished_at": now})
    if outcome.is_gone or delivery.attempts > len(RETRY_AFTER):
        return delivery.model_copy(update={"state": DeliveryState.FAILED, "finished_at": now})
    wait = RETRY_AFTER[delivery.attempts - 1] * (1 + _JITTER * (2 * jitter() - 1))
    return delivery.model_copy(update={"due_at": now + wait})
