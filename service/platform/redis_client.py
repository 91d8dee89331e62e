"""A client of the Redis that is the broker, for what the processes of an installation count together."""

from typing import Final
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

SENTINEL_SCHEME: Final = "sentinel://"
_SENTINEL_PORT = 26_379
_TIMEOUT_SECONDS = 1.0
"""Somebody waits for the answer, and whoever asks can do without it."""
_ONCE = Retry(NoBackoff(), 0)


def redis_client(broker_url: str, *, master_name: str | None = None) -> redis.Redis:
    """Return a client of the Redis a broker's URL names, not connected yet.

    Behind Sentinels, whose URLs stand between semicolons, it asks for the master at each new connection, so that it
    follows a failover. User, password and database of the first URL are those of the master, as Celery reads them.
    """
    urls = broker_url.split(";")
    if not urls[0].startswith(SENTINEL_SCHEME):
        return redis.Redis.from_url(
            urls[0], socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, retry=_ONCE
        )
    parts = [urlsplit(url) for url in urls]
    first = parts[0]
    sentinels = [(part.hostname or "localhost", part.port or _SENTINEL_PORT) for part in parts]
    watchers = Sentinel(sentinels, socket_timeout=_TIMEOUT_SECONDS)  # type: ignore[no-untyped-call]  # of redis
    master: redis.Redis = watchers.master_for(  # type: ignore[no-untyped-call]  # of redis
        master_name or "",
        db=int(first.path.strip("/") or 0),
        username=unquote(first.username) if first.username else None,
        password=unquote(first.password) if first.password else None,
        socket_timeout=_TIMEOUT_SECONDS,
        retry=_ONCE,
    )
    return master
