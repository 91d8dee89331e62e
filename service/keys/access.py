"""Issuing keys, and deciding from the text of one who is calling and what they may do."""

import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from service.jobs.policy import USAGE_WINDOW
from service.jobs.ports import JobReading
from service.jobs.schema import Usage
from service.keys.errors import InvalidKeyError, MissingScopeError, QuotaExceededError
from service.keys.schema import ApiKey, IssuedKey, Quota, Scope
from service.keys.secret import new_secret, parse_secret
from service.keys.store import KeyStore
from service.platform.clock import utc_now

N = TypeVar("N", int, float)

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
    not_after: datetime | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> IssuedKey:
    """Make a key and return it with its text, which cannot be shown again.

    Args:
        lifetime: None: until it is revoked.
        not_after: When it ends at the latest, whatever the lifetime.
    """
    key_id, text, digest = new_secret()
    now = clock()
    ends = [end for end in (None if lifetime is None else now + lifetime, not_after) if end is not None]
    key = ApiKey(
        id=key_id,
        name=name,
        owner=owner,
        scopes=tuple(dict.fromkeys(scopes)),
        quota=quota or Quota(),
        created_at=now,
        expires_at=min(ends, default=None),
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
    if not hmac.compare_digest(digest, parsed[1]) or _is_over(key, now):
        raise _invalid()
    if key.last_used_at is None or now - key.last_used_at >= _TOUCH_EVERY:
        store.touch(key.id, now=now)
    return key


def require_scope(key: ApiKey, scope: Scope) -> None:
    """Raise MissingScopeError unless the key may do this."""
    if scope not in key.scopes:
        raise MissingScopeError(f"this API key lacks the scope {scope!r}; it has {', '.join(key.scopes) or 'none'}")


def require_quota(quota: Quota, usage: Usage) -> None:
    """Raise QuotaExceededError when one more job would be more than the owner may have.

    `max_running` is not among the reasons: workers leave a job waiting while its owner has so many at work.
    """
    minutes = usage.running_seconds / 60
    checks = (
        (quota.max_queued, usage.queued, "jobs waiting", _NEXT_JOB),
        (quota.minutes_per_day, minutes, "minutes of running jobs in 24 hours", _NEXT_HOUR),
    )
    for limit, used, what, pause in checks:
        if limit is not None and used >= limit:
            raise QuotaExceededError(
                f"the quota of {limit:g} {what} is used up ({used:.3g}); wait, or ask for more",
                retry_after_seconds=pause.total_seconds(),
            )


def lack_of_room(
    owner: str, *, keys: KeyStore, jobs: JobReading, clock: Callable[[], datetime] = utc_now
) -> str | None:
    """Return why an owner may not have one more job now, or None: for jobs that start without anybody calling."""
    now = clock()
    quota = owner_quota(keys.list(owner), now=now)
    try:
        if quota is not None:
            require_quota(quota, jobs.usage(owner, since=now - USAGE_WINDOW))
    except QuotaExceededError as error:
        return str(error)
    return None


def owner_quota(keys: Sequence[ApiKey], *, now: datetime) -> Quota | None:
    """Return what the owner of these keys may use where no key is at hand: the widest of each limit.

    Keys that still work count; where none does, all, so that a revoked key opens no door. None: there is no key.
    """
    quotas = [key.quota for key in keys if not _is_over(key, now)] or [key.quota for key in keys]
    if not quotas:
        return None
    return Quota(
        max_queued=_widest([quota.max_queued for quota in quotas]),
        max_running=_widest([quota.max_running for quota in quotas]),
        minutes_per_day=_widest([quota.minutes_per_day for quota in quotas]),
        requests_per_minute=max(quota.requests_per_minute for quota in quotas),
    )


def _widest(limits: Sequence[N | None]) -> N | None:
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None


def _is_over(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)


def _invalid() -> InvalidKeyError:
    return InvalidKeyError("the API key is not valid; make a new one, or check that it was copied whole")
