"""Endpoints and deliveries in the database."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from service.notifications.errors import DeliveryNotFoundError, EndpointNotFoundError
from service.notifications.schema import ALL_TYPES, Attempt, Delivery, DeliveryState, Endpoint, EndpointRules
from service.notifications.tables import attempts, deliveries, endpoints
from service.platform.database import reading, writing
from service.platform.limits import require_fewer
from service.platform.stored import read_each, read_stored

_ENDPOINTS, _DELIVERIES, _ATTEMPTS = endpoints.c, deliveries.c, attempts.c
_VISIBLE = tuple(column for column in _ENDPOINTS if column.name != "secrets")
RULES_SCHEMA_VERSION = 1
_RULES = frozenset(EndpointRules.model_fields) - {"enabled"}


MAX_ENDPOINTS = 20
"""Of one owner; every job of theirs is told to each."""


class NotificationStore:
    """The endpoints of an installation, and every message to them with every try."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, endpoint: Endpoint, *, sealed_secrets: Sequence[str]) -> None:
        """Insert an endpoint. Raises LimitReachedError: the owner has MAX_ENDPOINTS."""
        values = {"id": endpoint.id, "owner": endpoint.owner, "created_at": endpoint.created_at}
        with writing(self.engine) as connection:
            rules = _rule_values(endpoint)
            require_fewer(connection, endpoints, endpoint.owner, than=MAX_ENDPOINTS)
            connection.execute(insert(endpoints).values(**values, **rules, secrets=[*sealed_secrets]))

    def get(self, endpoint_id: str, *, owner: str | None = None) -> Endpoint:
        """Return an endpoint. Raises EndpointNotFoundError, also for one of another owner."""
        with reading(self.engine) as connection:
            row = connection.execute(select(*_VISIBLE).where(_ENDPOINTS.id == endpoint_id)).one_or_none()
        if row is None or (owner is not None and row.owner != owner):
            raise EndpointNotFoundError(f"no endpoint has the id {endpoint_id!r}")
        return _endpoint(row)

    def list(self, owner: str | None = None) -> Sequence[Endpoint]:
        """Return the endpoints of an owner, or all, newest first, those that cannot be read left out."""
        with reading(self.engine) as connection:
            return read_endpoints(connection, owner)

    def replace_rules(self, endpoint_id: str, rules: EndpointRules, *, forgive: bool) -> None:
        """Store the rules of an endpoint; what was said against it stays, unless it is to be forgiven."""
        forgiven = {"failing_since": None, "disabled_reason": None} if forgive else {}
        with writing(self.engine) as connection:
            changed = update(endpoints).where(_ENDPOINTS.id == endpoint_id)
            connection.execute(changed.values(**forgiven, **_rule_values(rules)))

    def delete(self, endpoint_id: str, *, owner: str | None = None) -> None:
        """Delete an endpoint and its log. Raises EndpointNotFoundError."""
        self.get(endpoint_id, owner=owner)
        with writing(self.engine) as connection:
            connection.execute(delete(endpoints).where(_ENDPOINTS.id == endpoint_id))

    def secrets(self, endpoint_id: str) -> Sequence[str]:
        """Return the sealed secrets of an endpoint, newest first. Raises EndpointNotFoundError."""
        with reading(self.engine) as connection:
            found = connection.execute(
                select(_ENDPOINTS.secrets).where(_ENDPOINTS.id == endpoint_id)
            ).scalar_one_or_none()
        if found is None:
            raise EndpointNotFoundError(f"no endpoint has the id {endpoint_id!r}")
        return [str(secret) for secret in found]

    def seal_anew(self, seal: Callable[[bytes], bytes]) -> int:
        """Seal the secrets of all endpoints anew, and return of how many."""
        with writing(self.engine) as connection:
            rows = connection.execute(select(_ENDPOINTS.id, _ENDPOINTS.secrets).with_for_update()).all()
            for endpoint_id, sealed in rows:
                parts = (secret.partition("|") for secret in sealed)  # as `endpoints` writes them: until when, and what
                anew = [f"{until}|{seal(text.encode()).decode()}" for until, _, text in parts]
                connection.execute(update(endpoints).where(_ENDPOINTS.id == endpoint_id).values(secrets=anew))
        return len(rows)

    def replace_secrets(self, endpoint_id: str, sealed_secrets: Sequence[str]) -> None:
        """Store the sealed secrets of an endpoint, newest first."""
        with writing(self.engine) as connection:
            connection.execute(update(endpoints).where(_ENDPOINTS.id == endpoint_id).values(secrets=[*sealed_secrets]))

    def add_delivery(self, delivery: Delivery) -> None:
        """Insert a message."""
        with writing(self.engine) as connection:
            connection.execute(insert(deliveries).values(delivery_values(delivery)))

    def claim_due(self, *, now: datetime, until: datetime, limit: int) -> Sequence[Delivery]:
        """Take messages that are due and count the try; others do not see them before `until`.

        Messages to an endpoint that is switched off wait until it is on, or deleted. A process that dies in between
        leaves them to be taken again then: at least once, never lost.
        """
        due = (
            select(_DELIVERIES.id)
            .join(endpoints, _ENDPOINTS.id == _DELIVERIES.endpoint_id)
            .where(
                _DELIVERIES.state == str(DeliveryState.PENDING),
                _DELIVERIES.due_at <= now,
                _ENDPOINTS.enabled,
            )
            .order_by(_DELIVERIES.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=deliveries)
        )
        with writing(self.engine) as connection:
            ids = connection.execute(due).scalars().all()
            take = (
                update(deliveries)
                .where(_DELIVERIES.id.in_(ids))
                .values(due_at=until, attempts=_DELIVERIES.attempts + 1)
                .returning(*_DELIVERIES)
            )
            return read_each(connection.execute(take), _delivery, what="delivery")[0] if ids else []

    def record(self, delivery: Delivery, attempt: Attempt) -> None:
        """Store a try, and what it makes of the message."""
        values = {"state": str(delivery.state), "due_at": delivery.due_at, "finished_at": delivery.finished_at}
        with writing(self.engine) as connection:
            connection.execute(insert(attempts).values(attempt.model_dump()))
            connection.execute(update(deliveries).where(_DELIVERIES.id == delivery.id).values(values))

    def put_back(self, delivery: Delivery, *, due_at: datetime) -> None:
        """Undo the claim of a message that was not tried."""
        values = {"due_at": due_at, "attempts": _DELIVERIES.attempts - 1}
        with writing(self.engine) as connection:
            connection.execute(update(deliveries).where(_DELIVERIES.id == delivery.id).values(values))

    def deliveries(self, endpoint_id: str, *, limit: int = 100) -> Sequence[Delivery]:
        """Return the messages to an endpoint, newest first."""
        query = (
            select(deliveries)
            .where(_DELIVERIES.endpoint_id == endpoint_id)
            .order_by(_DELIVERIES.id.desc())
            .limit(limit)
        )
        with reading(self.engine) as connection:
            return read_each(connection.execute(query), _delivery, what="delivery")[0]

    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Return one message. Raises DeliveryNotFoundError."""
        query = select(deliveries).where(_DELIVERIES.id == delivery_id, _DELIVERIES.endpoint_id == endpoint_id)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise DeliveryNotFoundError(f"no delivery of this endpoint has the id {delivery_id!r}")
        return _delivery(row)

    def counts(self) -> Mapping[str, int]:
        """Return the number of messages by state, every state named."""
        query = select(_DELIVERIES.state, func.count()).group_by(_DELIVERIES.state)
        with reading(self.engine) as connection:
            found = {str(state): int(count) for state, count in connection.execute(query)}
        return {str(state): found.get(str(state), 0) for state in DeliveryState}

    def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        """Return the tries of a message, in order."""
        query = select(attempts).where(_ATTEMPTS.delivery_id == delivery_id).order_by(_ATTEMPTS.number)
        with reading(self.engine) as connection:
            return [Attempt.model_validate(row._asdict()) for row in connection.execute(query)]

    def resend(self, delivery: Delivery, *, now: datetime) -> None:
        """Make a message due now, with all its tries before it."""
        values = {"state": str(DeliveryState.PENDING), "due_at": now, "finished_at": None}
        with writing(self.engine) as connection:
            connection.execute(update(deliveries).where(_DELIVERIES.id == delivery.id).values(values))


def read_endpoints(connection: Connection, owner: str | None) -> Sequence[Endpoint]:
    """Return the endpoints of an owner, or all, newest first, those that cannot be read left out."""
    query = select(*_VISIBLE).order_by(_ENDPOINTS.id.desc())
    rows = connection.execute(query if owner is None else query.where(_ENDPOINTS.owner == owner))
    return read_each(rows, _endpoint, what="endpoint")[0]


def lock_endpoint(connection: Connection, endpoint_id: str) -> Endpoint | None:
    """Return an endpoint that nobody changes until the transaction ends, or None when there is none."""
    query = select(*_VISIBLE).where(_ENDPOINTS.id == endpoint_id).with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else _endpoint(row)


def delivery_values(delivery: Delivery) -> dict[str, Any]:
    """Return the columns of a message."""
    return delivery.model_dump() | {"state": str(delivery.state)}


def _rule_values(rules: EndpointRules) -> dict[str, Any]:
    # A column of its own: what is sent depends on it, and what a receiver answers may change it and nothing else.
    stored = rules.model_dump(mode="json", include=set(_RULES)) | {"schema_version": RULES_SCHEMA_VERSION}
    return {"rules": stored, "enabled": rules.enabled}


def _endpoint(row: Row[Any]) -> Endpoint:
    values = row._asdict()
    rules = dict(values.pop("rules"))
    # What a newer version can send and this one cannot is not asked for here; the rest is.
    rules["types"] = [name for name in rules.get("types", ()) if name in ALL_TYPES]
    return read_stored(Endpoint, rules | values, what="endpoint")


def _delivery(row: Row[Any]) -> Delivery:
    return read_stored(Delivery, row._asdict(), what="delivery")
