"""Keys in the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, insert, or_, select, update

from service.keys.errors import KeyNotFoundError
from service.keys.schema import ALL_SCOPES, ApiKey
from service.keys.tables import api_keys, ended_sessions
from service.platform.database import reading, writing
from service.platform.limits import require_fewer
from service.platform.stored import read_each, read_stored

MAX_KEYS = 100
"""Of one owner that work at a time; everybody has a few for their programs."""
_KEYS = api_keys.c
_VISIBLE = tuple(column for column in _KEYS if column.name != "digest")


class KeyStore:
    """The API keys of an installation, by the digests of their secrets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, key: ApiKey, digest: str) -> None:
        """Insert a key.

        Raises:
            LimitReachedError: the owner has MAX_KEYS that work.
        """
        values = key.model_dump(exclude={"scopes", "quota"})
        columns = {"scopes": list(key.scopes), "quota": key.quota.model_dump(), "digest": digest}
        works = (_KEYS.revoked_at.is_(None), or_(_KEYS.expires_at.is_(None), _KEYS.expires_at > key.created_at))
        with writing(self._engine) as connection:
            require_fewer(connection, api_keys, key.owner, *works, than=MAX_KEYS)
            connection.execute(insert(api_keys).values(values | columns))

    def find(self, key_id: str) -> tuple[ApiKey, str] | None:
        """Return a key and its digest, also one that has expired or was revoked."""
        with reading(self._engine) as connection:
            row = connection.execute(select(*_VISIBLE, _KEYS.digest).where(_KEYS.id == key_id)).one_or_none()
        if row is None:
            return None
        values = row._asdict()
        digest: str = values.pop("digest")
        return _key(values), digest

    def list(self, owner: str | None) -> Sequence[ApiKey]:
        """Return the keys of an owner, or all, newest first."""
        query = select(*_VISIBLE).order_by(_KEYS.created_at.desc(), _KEYS.id)
        if owner is not None:
            query = query.where(_KEYS.owner == owner)
        with reading(self._engine) as connection:
            return read_each(connection.execute(query), lambda row: _key(row._asdict()), what="key")[0]

    def revoke(self, key_id: str, *, owner: str | None, now: datetime) -> ApiKey:
        """Revoke a key and return it; doing so again keeps the first time. Raises KeyNotFoundError."""
        with writing(self._engine) as connection:
            wanted = [_KEYS.id == key_id] + ([] if owner is None else [_KEYS.owner == owner])
            connection.execute(update(api_keys).where(*wanted, _KEYS.revoked_at.is_(None)).values(revoked_at=now))
            row = connection.execute(select(*_VISIBLE).where(*wanted)).one_or_none()
        if row is None:
            raise KeyNotFoundError(f"no API key has the id {key_id!r}")
        return _key(row._asdict())

    def end_session(self, session_id: str, *, lasts: timedelta, now: datetime) -> None:
        """Write down that a session was ended, for as long as its cookie lasts at most."""
        with writing(self._engine) as connection:
            connection.execute(delete(ended_sessions).where(ended_sessions.c.forget_at < now))
            known = select(ended_sessions.c.id).where(ended_sessions.c.id == session_id)
            if connection.execute(known).one_or_none() is None:
                connection.execute(insert(ended_sessions).values(id=session_id, forget_at=now + lasts))

    def has_ended(self, session_id: str) -> bool:
        """Whether a session was ended by whoever had it."""
        with reading(self._engine) as connection:
            known = select(ended_sessions.c.id).where(ended_sessions.c.id == session_id)
            return connection.execute(known).one_or_none() is not None

    def touch(self, key_id: str, *, now: datetime) -> None:
        """Record that a key was used."""
        with writing(self._engine) as connection:
            connection.execute(update(api_keys).where(_KEYS.id == key_id).values(last_used_at=now))


def _key(values: Mapping[str, Any]) -> ApiKey:
    # A right of a newer version is none here; the others hold.
    scopes = [scope for scope in values["scopes"] if scope in ALL_SCOPES]
    return read_stored(ApiKey, {**values, "scopes": scopes}, what="key")
