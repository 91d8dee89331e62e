"""Where a token may create repositories, remembered for a while: the Hub limits that question on purpose."""

import hashlib
import threading
import time
from collections.abc import Callable

from service.hub.client import HubClient
from service.hub.translation import Subject

REMEMBER_SECONDS = 300.0
"""A token revoked or moved to another organization meanwhile is still refused, by the Hub itself, when it writes."""
_MAX_REMEMBERED = 1000


class Namespaces:
    """The user and organizations of a token. Keeps hashes of tokens, never tokens. Safe for threads."""

    def __init__(self, client: HubClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    def of(self, token: str) -> frozenset[str]:
        """Return the namespaces. Raises InvalidTokenError, HubUnavailableError."""
        key, now = hashlib.sha256(token.encode()).hexdigest(), self._clock()
        with self._lock:
            asked_at, known = self._known.get(key, (-REMEMBER_SECONDS, frozenset()))
            if known and now - asked_at < REMEMBER_SECONDS:
                return known
        me = self._client.ask(lambda: self._client.api.whoami(token=token), Subject("this account", writing=True))
        found = frozenset({me["name"], *(organization["name"] for organization in me.get("orgs") or ())})
        with self._lock:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = (now, found)
        return found
