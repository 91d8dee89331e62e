"""Issuing keys, and deciding from the text of one who is calling and what they may do."""

import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from service.jobs.policy import utc_now
from service.jobs.schema import Usage
from service.keys.errors import InvalidKeyError, MissingScopeError, QuotaExceededError
from service.keys.schema import ApiKey, IssuedKey, Quota, Scope
from service.keys.secret import new_secret, parse_secret
from service.keys.store import KeyStore

_TOUCH_EVERY = timedelta(minutes=1)
"""`last_used_at` is only so exact, so that reading jobs in a loop does not write in a loop."""
_NEXT_JOB, _NEXT_HOUR = timedelta(minutes=1), timedelta(hours=1)
"""When asking again makes sense: a guess, since nobody knows when a job ends or the day's minutes run out of it."""


def issue_key(
    store: KeyStore,
    *,
    name: str,
    owner: str,
    scopes: Sequence[Scope],
    quota: Quota | None = None,
    lifetime: timedelta | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> IssuedKey:
    """Make a key and return it with its text, which cannot be shown again. None lives until it is revoked."""
    key_id, text, digest = new_secret()
    now = clock()
    key = ApiKey(
        id=key_id,
        name=name,
        owner=owner,
        scopes=tuple(dict.fromkeys(scopes)),
        quota=quota or Quota(),
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    store.add(key, digest)
    return IssuedKey(key=key, text=text)


def authenticate(text: str, *, store: KeyStore, clock: Callable[[], datetime] = utc_now) -> ApiKey:
    """Return the key a text is of.

    Raises:
        InvalidKeyError: malformed, unknown, wrong, expired or revoked; all look the same from outside.
    """
    parsed = parse_secret(text)
    found = store.find(parsed[0]) if parsed is not None else None
    if parsed is None or found is None:
        raise _invalid()
    key, digest = found
    now = clock()
    is_over = key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)
    if not hmac.compare_digest(digest, parsed[1]) or is_over:
        raise _invalid()
    if key.last_used_at is None or now - key.last_used_at >= _TOUCH_EVERY:
        store.touch(key.id, now=now)
    return key


def require_scope(key: ApiKey, scope: Scope) -> None:
    """Raise MissingScopeError unless the key may do this."""
    if scope not in key.scopes:
        raise MissingScopeError(f"this API key lacks the scope {scope!r}; it has {', '.join(key.scopes) or 'none'}")


def require_quota(quota: Quota, usage: Usage) -> None:
    """Raise QuotaExceededError when one more job would be more than the owner may have."""
    minutes = usage.running_seconds / 60
    checks = (
        (quota.max_queued, usage.queued, "jobs waiting", _NEXT_JOB),
        (quota.max_running, usage.running, "jobs running", _NEXT_JOB),
        (quota.minutes_per_day, minutes, "minutes of running jobs in 24 hours", _NEXT_HOUR),
    )
    for limit, used, what, pause in checks:
        if limit is not None and used >= limit:
            raise QuotaExceededError(
                f"the quota of {limit:g} {what} is used up ({used:.3g}); wait, or ask for more",
                retry_after_seconds=pause.total_seconds(),
            )


def _invalid() -> InvalidKeyError:
    return InvalidKeyError("the API key is not valid; make a new one, or check that it was copied whole")
