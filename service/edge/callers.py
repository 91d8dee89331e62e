"""Who is calling: an API key, a person who signed in with one, or the one local user."""

import math
from datetime import UTC, datetime
from typing import Protocol

from starlette.requests import Request

from service.accounts import Account, Admission
from service.edge.sessions import SESSION_COOKIE, SESSION_LIFETIME, Session, Sessions
from service.jobs.credentials import brings_own_token
from service.jobs.tenancy import LOCAL_OWNER
from service.keys.access import authenticate
from service.keys.errors import RateLimitedError
from service.keys.rate_limit import RateDecision, RateLimiter
from service.keys.schema import ALL_SCOPES, ApiKey, Quota, Scope
from service.keys.store import KeyStore
from service.submissions.caller import Caller

_SAFE_METHODS = frozenset({"GET", "HEAD"})


class SignInRequiredError(Exception):
    """Nobody has signed in, and this service wants somebody to."""

    code = "sign_in_required"


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
    """Programs send an API key as a bearer token; browsers carry a session that a key or an account has opened.

    A session of a key is checked against it at every request, so revoking a key ends its sessions; one of an account
    is checked against the operator's list.
    """

    def __init__(
        self, keys: KeyStore, limiter: RateLimiter, sessions: Sessions, admission: Admission | None = None
    ) -> None:
        """Tell callers apart by their keys, and by their accounts where there is an admission."""
        self._keys = keys
        self._limiter = limiter
        self._sessions = sessions
        self._admission = admission

    def identify(self, request: Request) -> Caller:
        """Return who sends a request, and count it.

        Who it was and what is left of their rate are noted in the request's state, for its log line and its headers.
        """
        caller = self._caller(request)
        quota = caller.quota or Quota()
        rate = self._limiter.hit(caller.key_id or caller.owner, per_minute=quota.requests_per_minute)
        request.state.key_id, request.state.rate = caller.key_id, rate
        if not rate.allowed:
            raise RateLimitedError(
                f"more than {rate.limit} requests in a minute; wait {whole_seconds(rate.reset_seconds)} s",
                retry_after_seconds=rate.reset_seconds,
            )
        return caller

    def open_session(self, text: str) -> str:
        """Return the session cookie of the holder of a key. Raises InvalidKeyError."""
        return self._sessions.issue(Session(key_id=authenticate(text, store=self._keys).id))

    def open_account_session(self, account: Account) -> str:
        """Return the session cookie of somebody who has signed in with an account."""
        return self._sessions.issue(Session(account=account))

    def close_session(self, cookie: str) -> None:
        """End the session of a cookie for good, wherever it was copied to."""
        session = self._sessions.read(cookie)
        if session is not None:
            self._keys.end_session(session.id, lasts=SESSION_LIFETIME, now=datetime.now(UTC))

    def _caller(self, request: Request) -> Caller:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _key_caller(authenticate(text.strip(), store=self._keys))
        # A cookie is sent along by any page that makes the browser ask, so it alone changes nothing over REST:
        # the forms of our pages carry a token of their own.
        is_rest_change = request.url.path.startswith("/v1/") and request.method not in _SAFE_METHODS
        session = None if is_rest_change else self._sessions.read(request.cookies.get(SESSION_COOKIE, ""))
        if session is not None and self._keys.has_ended(session.id):
            session = None
        if session is not None and session.account is not None:
            return _account_caller(self._still_admitted(session.account))
        if session is None or session.key_id is None:
            raise SignInRequiredError("send an API key as `Authorization: Bearer srr_...`, or sign in")
        return _key_caller(self._still_valid(session.key_id))

    def _still_valid(self, key_id: str) -> ApiKey:
        found = self._keys.find(key_id)
        now = datetime.now(UTC)
        if found is None or found[0].revoked_at is not None or (found[0].expires_at or now) < now:
            raise SignInRequiredError("the API key you signed in with is not valid any more; sign in with another")
        return found[0]

    def _still_admitted(self, account: Account) -> Account:
        if self._admission is None or not self._admission.still_admits(account):
            raise SignInRequiredError("this service is not open to your account any more")
        return account


def _key_caller(key: ApiKey) -> Caller:
    return Caller(
        owner=key.owner,
        scopes=_scopes(key.owner, key.scopes),
        quota=key.quota,
        key_id=key.id,
        key_expires_at=key.expires_at,
    )


def _account_caller(account: Account) -> Caller:
    return Caller(owner=account.owner, scopes=_scopes(account.owner, ALL_SCOPES), quota=Quota(), account=account)


def _scopes(owner: str, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    # The jobs of a watch run while nobody is there to bring a token.
    return tuple(scope for scope in scopes if scope != "watches:write") if brings_own_token(owner) else scopes


def rate_limit_headers(rate: RateDecision) -> dict[str, str]:
    """Return the RateLimit headers of an answer. Source: IETF draft httpapi-ratelimit-headers, as the Hub uses it."""
    return {
        "RateLimit-Policy": f'"requests";q={rate.limit};w=60',
        "RateLimit": f'"requests";r={rate.remaining};t={whole_seconds(rate.reset_seconds)}',
    }


def whole_seconds(seconds: float) -> int:
    """Return a time to wait as headers and sentences tell it: rounded up, so that nobody comes back too early."""
    return max(1, math.ceil(seconds))
