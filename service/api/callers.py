"""Who is calling: an API key, a person who signed in with one, or the one local user."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import Request

from service.jobs.store import JobStore
from service.keys import (
    ALL_SCOPES,
    ApiKey,
    KeyStore,
    Quota,
    RateDecision,
    RateLimiter,
    Scope,
    authenticate,
    require_quota,
)
from service.keys.errors import MissingScopeError, RateLimitedError

LOCAL_OWNER = "local"
SESSION_COOKIE = "srr_session"
SESSION_LIFETIME = timedelta(hours=12)
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_DAY = timedelta(hours=24)


class SignInRequiredError(Exception):
    """Nobody has signed in, and this service wants somebody to."""

    code = "sign_in_required"


@dataclass(frozen=True)
class Caller:
    """Who is asking. Jobs of other owners do not exist for them."""

    owner: str
    scopes: tuple[Scope, ...]
    quota: Quota | None = None
    """None for the local user, who shares this machine with nobody."""
    key_id: str | None = None

    def require(self, scope: Scope) -> None:
        """Raise MissingScopeError unless the caller may do this."""
        if scope not in self.scopes:
            raise MissingScopeError(
                f"this needs the scope {scope!r}; the API key has {', '.join(self.scopes) or 'none'}"
            )

    def require_room(self, store: JobStore) -> None:
        """Raise QuotaExceededError when one more job would be too many."""
        if self.quota is not None:
            require_quota(self.quota, store.usage(self.owner, since=datetime.now(UTC) - _DAY))


class CallerPolicy(Protocol):
    """How callers are told apart."""

    def identify(self, request: Request) -> Caller:
        """Return who sends a request. Raises SignInRequiredError, InvalidKeyError, RateLimitedError."""


class SingleUser:
    """Everybody is the same local user. Only for a service that listens on loopback."""

    def identify(self, request: Request) -> Caller:  # the port's signature
        """Return the local user."""
        return Caller(owner=LOCAL_OWNER, scopes=ALL_SCOPES)


class KeyHolders:
    """Programs send an API key as a bearer token; browsers carry a session that a key has opened.

    The session names the key and is checked against it at every request: revoking a key ends its sessions.
    """

    def __init__(self, keys: KeyStore, limiter: RateLimiter, sessions: "Sessions") -> None:
        self._keys = keys
        self._limiter = limiter
        self._sessions = sessions

    def identify(self, request: Request) -> Caller:
        """Return the holder of the key a request carries, and count the request.

        The key and what is left of its rate are noted in the request's state, for its log line and its headers.
        """
        key = self._key(request)
        rate = self._limiter.hit(key.id, per_minute=key.quota.requests_per_minute)
        request.state.key_id, request.state.rate = key.id, rate
        if not rate.allowed:
            raise RateLimitedError(
                f"more than {rate.limit} requests in a minute; wait {whole_seconds(rate.reset_seconds)} s",
                retry_after_seconds=rate.reset_seconds,
            )
        return Caller(owner=key.owner, scopes=key.scopes, quota=key.quota, key_id=key.id)

    def open_session(self, text: str) -> str:
        """Return the session cookie of the holder of a key. Raises InvalidKeyError."""
        return self._sessions.issue(authenticate(text, store=self._keys).id)

    def _key(self, request: Request) -> ApiKey:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return authenticate(text.strip(), store=self._keys)
        # A cookie is sent along by any page that makes the browser ask, so it alone changes nothing over REST:
        # the forms of our pages carry a token of their own.
        is_rest_change = request.url.path.startswith("/v1/") and request.method not in _SAFE_METHODS
        key_id = None if is_rest_change else self._sessions.read(request.cookies.get(SESSION_COOKIE, ""))
        if key_id is None:
            raise SignInRequiredError("send an API key as `Authorization: Bearer srr_...`, or sign in")
        return self._still_valid(key_id)

    def _still_valid(self, key_id: str) -> ApiKey:
        found = self._keys.find(key_id)
        now = datetime.now(UTC)
        if found is None or found[0].revoked_at is not None or (found[0].expires_at or now) < now:
            raise SignInRequiredError("the API key you signed in with is not valid any more; sign in with another")
        return found[0]


class Sessions:
    """Signed cookies that name a key. Nothing is stored: they end with their key, or after twelve hours."""

    def __init__(self, secret: str | bytes) -> None:
        self._signer = TimestampSigner(secret, salt="srr.session")

    def issue(self, key_id: str) -> str:
        """Return the cookie of a new session."""
        return self._signer.sign(key_id).decode()

    def read(self, cookie: str) -> str | None:
        """Return the key a cookie names, or None when it is forged or too old."""
        try:
            return self._signer.unsign(cookie, max_age=int(SESSION_LIFETIME.total_seconds())).decode()
        except BadSignature:
            return None


def rate_limit_headers(rate: RateDecision) -> dict[str, str]:
    """Return the RateLimit headers of an answer. Source: IETF draft httpapi-ratelimit-headers, as the Hub uses it."""
    return {
        "RateLimit-Policy": f'"requests";q={rate.limit};w=60',
        "RateLimit": f'"requests";r={rate.remaining};t={whole_seconds(rate.reset_seconds)}',
    }


def whole_seconds(seconds: float) -> int:
    """Return a time to wait as headers and sentences tell it: rounded up, so that nobody comes back too early."""
    return max(1, math.ceil(seconds))
