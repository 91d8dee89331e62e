"""What was looked up of a commit, remembered for a short while: a commit never changes, and asking costs time."""

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from service.hub.destination import Destination
from service.hub.errors import HubUnavailableError
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel
from service.hub.weights import Weights

REMEMBER_SECONDS = 120.0
"""Access that was taken away meanwhile is noticed by the worker, which asks the hub itself."""
REST_SECONDS = 10.0
"""A hub that cannot be reached is left alone for this long, or every request would wait for its time limit."""
MAX_REMEMBERED = 64
"""The tensors of a mixture of experts take tens of megabytes, those of other models less than one."""

COMMIT = re.compile(r"[0-9a-f]{40}")
_Key = tuple[str, str, str | None]
V = TypeVar("V")
T = TypeVar("T")


class CachedMetadata:
    """`HubMetadata` over another one. Branches and tags are asked for every time: they move.

    What one token was told is not told to another: entries are kept by the hash of the token. Safe for threads.
    """

    def __init__(self, hub: HubMetadata, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._clock = clock
        self._models = _Remembered[ResolvedModel](clock)
        self._weights = _Remembered[Weights](clock)
        self._rests_until: dict[str | None, float] = {}

    @property
    def is_local(self) -> bool:
        """Whether it is the operator's own folder."""
        return self._hub.is_local

    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        """Pin a revision to its commit and list what is there."""
        if COMMIT.fullmatch(revision):
            known = self._models.get((model_id, revision, _hash(token)))
            if known is not None:
                return known
        model = self._ask(lambda: self._hub.resolve(model_id, revision, token=token), token)
        self._models.put((model_id, model.sha, _hash(token)), model)
        return model

    def inspect(self, model: ResolvedModel, *, token: str | None = None) -> Weights:
        """Read the headers of the weights."""
        key = (model.model_id, model.sha, _hash(token))
        weights = self._weights.get(key)
        if weights is None:
            weights = self._ask(lambda: self._hub.inspect(model, token=token), token)
            self._weights.put(key, weights)
        return weights

    def artifact_report(self, model: ResolvedModel, *, token: str | None = None) -> Mapping[str, Any] | None:
        """Return the report of the compression in a repository. Not remembered: it may be large."""
        return self._ask(lambda: self._hub.artifact_report(model, token=token), token)

    def artifact_source(self, model: ResolvedModel, *, token: str | None = None) -> str | None:
        """Return what a repository of ours was compressed from."""
        return self._ask(lambda: self._hub.artifact_source(model, token=token), token)

    def destination(self, repo_id: str, *, token: str | None = None) -> Destination:
        """Look at the repository an artifact is to be published to."""
        return self._ask(lambda: self._hub.destination(repo_id, token=token), token)

    def visible_destination(self, repo_id: str) -> Destination:
        """Look at a destination as anybody sees it."""
        return self._ask(lambda: self._hub.visible_destination(repo_id), None)

    def _ask(self, call: Callable[[], T], token: str | None) -> T:
        key = _hash(token)
        left = self._rests_until.get(key, 0.0) - self._clock()
        if left > 0:
            raise HubUnavailableError(
                f"The hub could not be reached a moment ago; try again in {left:.0f} seconds.", retry_after_seconds=left
            )
        try:
            return call()
        except HubUnavailableError as error:
            # Only where nobody listens. What one model makes the hub answer keeps nobody from the others, and what
            # one caller was told keeps no other caller waiting.
            if error.is_unreachable:
                self._rest(key)
            raise

    def _rest(self, key: str | None) -> None:
        now = self._clock()
        known = {name: until for name, until in tuple(self._rests_until.items()) if until > now}
        self._rests_until = {**known, key: now + REST_SECONDS}


class _Remembered(Generic[V]):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Key, tuple[float, V]] = OrderedDict()

    def get(self, key: _Key) -> V | None:
        with self._lock:
            until, value = self._entries.get(key, (0.0, None))
            if value is None or until <= self._clock():
                return None
            self._entries.move_to_end(key)
            return value

    def put(self, key: _Key, value: V) -> None:
        with self._lock:
            self._entries[key] = (self._clock() + REMEMBER_SECONDS, value)
            self._entries.move_to_end(key)
            while len(self._entries) > MAX_REMEMBERED:
                self._entries.popitem(last=False)


def _hash(token: str | None) -> str | None:
    return None if token is None else hashlib.sha256(token.encode()).hexdigest()
