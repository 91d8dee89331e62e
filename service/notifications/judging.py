"""When an endpoint is switched off for what it answers, and who is notified."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, insert, update

from service.notifications.messages import disabled_payload, message_to
from service.notifications.schema import DISABLED_TYPE, Delivery, Endpoint
from service.notifications.sending import Outcome
from service.notifications.store import (
    NotificationStore,
    delivery_values,
    lock_endpoint,
    read_endpoints,
)
from service.notifications.tables import deliveries, endpoints
from service.platform.database import writing

_log = structlog.get_logger(__name__)

DISABLE_AFTER = timedelta(days=5)
"""An endpoint that took nothing for this long is switched off."""


def judge(
    tried: Endpoint, delivery: Delivery, outcome: Outcome, *, store: NotificationStore, base_url: str, now: datetime
) -> None:
    """Draw the consequences of a try for the endpoint: forgive it, blame it, or switch it off and tell its owner.

    Works on the endpoint as it is now, under a lock, and leaves one alone whose URL was replaced during the try. The
    failure of a notice about another endpoint counts for nothing, so that no notice ever causes the next.
    """
    if outcome.is_delivered and tried.failing_since is None:
        return
    if not outcome.is_delivered and delivery.type == DISABLED_TYPE:
        return
    with writing(store.engine) as connection:
        endpoint = lock_endpoint(connection, tried.id)
        if endpoint is None or not endpoint.enabled or endpoint.url != tried.url:
            return
        since = None if outcome.is_delivered else endpoint.failing_since or now
        connection.execute(update(endpoints).where(endpoints.c.id == endpoint.id).values(failing_since=since))
        if outcome.is_gone:
            _switch_off(connection, endpoint, "it answered 410 Gone", base_url, now)
        elif since is not None and now - since >= DISABLE_AFTER:
            _switch_off(connection, endpoint, f"it took nothing for {DISABLE_AFTER.days} days", base_url, now)


def _switch_off(connection: Connection, endpoint: Endpoint, reason: str, base_url: str, now: datetime) -> None:
    change = update(endpoints).where(endpoints.c.id == endpoint.id)
    connection.execute(change.values(enabled=False, disabled_reason=reason))
    payload = disabled_payload(endpoint, reason=reason, at=now, base_url=base_url)
    others = [other for other in read_endpoints(connection, endpoint.owner) if other.enabled]
    notices = [delivery_values(message_to(other.id, payload, now=now)) for other in others]
    if notices:
        connection.execute(insert(deliveries), notices)
    _log.warning("endpoint_disabled", endpoint_id=endpoint.id, reason=reason, told=len(notices))
