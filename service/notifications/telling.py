"""News that is about no job: written for every endpoint of an owner, sent like any other."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import insert

from service.notifications.messages import message_to
from service.notifications.store import NotificationStore, delivery_values, read_endpoints
from service.notifications.tables import deliveries
from service.platform.database import writing


def tell_owner(store: NotificationStore, owner: str, payload: Mapping[str, Any], *, now: datetime) -> int:
    """Write a message to each endpoint of an owner that is switched on, and return how many."""
    with writing(store.engine) as connection:
        wanted = [endpoint for endpoint in read_endpoints(connection, owner) if endpoint.enabled]
        rows = [delivery_values(message_to(endpoint.id, payload, now=now)) for endpoint in wanted]
        if rows:
            connection.execute(insert(deliveries), rows)
    return len(rows)
