"""How often a key may call: a leaky bucket per key, in this process or in Redis for several."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import redis
import structlog

_log = structlog.get_logger(__name__)

_WINDOW_SECONDS = 60.0
REST_SECONDS = 5.0
"""A Redis that did not answer rests these seconds, or every request would wait for its time limit."""
_MAX_KEYS = 100_000
"""Buckets kept in memory; beyond that the full ones are forgotten, which only ever allows more."""

_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local step, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if due + step - now > window then
  return tostring(now - due)
end
redis.call('SET', KEYS[1], string.format('%.6f', due + step), 'EX', math.ceil(window))
return tostring(window - (due + step - now))
"""
"""Returns the time left in the bucket; negative, the bucket is full and its absolute is what is in it."""


@dataclass(frozen=True)
class RateDecision:
    """Whether a call is allowed, and what to tell the caller in the RateLimit headers."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    """Until the bucket is empty again, or, when refused, until one more call is allowed."""


class RateLimiter(Protocol):
    """Counts calls of keys. Generic cell rate algorithm: a burst of the whole limit, then one call per step."""

    def hit(self, key_id: str, *, per_minute: int) -> RateDecision:
        """Count one call."""


class MemoryRateLimiter:
    """A `RateLimiter` for one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def hit(self, key_id: str, *, per_minute: int) -> RateDecision:
        """Count one call."""
        step = _WINDOW_SECONDS / per_minute
        with self._lock:
            now = self._clock()
            due = max(self._due.get(key_id, now), now)
            if due + step - now > _WINDOW_SECONDS:
                return _decision(now - due, step, per_minute)
            if len(self._due) >= _MAX_KEYS:
                self._due = {name: until for name, until in self._due.items() if until > now}
            self._due[key_id] = due + step
            return _decision(_WINDOW_SECONDS - (due + step - now), step, per_minute)


class RedisRateLimiter:
    """A `RateLimiter` for all processes that share a Redis, by its clock and in one round trip."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._script = client.register_script(_SCRIPT)
        self._prefix = prefix

    def hit(self, key_id: str, *, per_minute: int) -> RateDecision:
        """Count one call."""
        step = _WINDOW_SECONDS / per_minute
        left = float(self._script(keys=[f"{self._prefix}rate:{key_id}"], args=[step, _WINDOW_SECONDS]))
        return _decision(left, step, per_minute)


class FallbackRateLimiter:
    """A `RateLimiter` that counts in Redis and, while that does not answer, in this process.

    Each process then allows the whole limit by itself: more than before, and better than no answer at all.
    """

    def __init__(self, shared: RateLimiter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._own = MemoryRateLimiter(clock=clock)
        self._clock = clock
        self._rests_until = 0.0

    def hit(self, key_id: str, *, per_minute: int) -> RateDecision:
        """Count one call."""
        if self._clock() >= self._rests_until:
            try:
                return self._shared.hit(key_id, per_minute=per_minute)
            except redis.RedisError as error:
                self._rests_until = self._clock() + REST_SECONDS
                _log.warning("rate_limits_not_shared", reason=type(error).__name__, seconds=REST_SECONDS)
        return self._own.hit(key_id, per_minute=per_minute)


def _decision(left: float, step: float, limit: int) -> RateDecision:
    if left < 0:
        return RateDecision(False, limit, 0, max(0.0, -left + step - _WINDOW_SECONDS))
    return RateDecision(True, limit, int(left / step + 1e-9), _WINDOW_SECONDS - left)
