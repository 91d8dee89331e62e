"""Making an API key on behalf of somebody who holds one: never with more than they have, nor for longer."""

from datetime import timedelta

from service.keys.access import issue_key
from service.keys.errors import MissingScopeError, QuotaTooLargeError
from service.keys.schema import ApiKey, KeyCreate, Quota
from service.keys.store import KeyStore
from service.submissions.caller import Caller


def new_key(body: KeyCreate, caller: Caller, keys: KeyStore) -> tuple[ApiKey, str]:
    """Make a key and return it with its text.

    Raises:
        MissingScopeError: it would have more rights than the caller.
        QuotaTooLargeError: it would have a larger quota than the caller.
    """
    excess = sorted(set(body.scopes) - set(caller.scopes))
    if excess:
        raise MissingScopeError(f"a key cannot give away what it does not have: {', '.join(excess)}")
    quota = _quota(body, caller)
    issued = issue_key(
        keys,
        name=body.name,
        owner=caller.owner,
        scopes=body.scopes,
        quota=quota,
        lifetime=None if body.expires_in_days is None else timedelta(days=body.expires_in_days),
        not_after=caller.key_expires_at,
    )
    return issued.key, issued.text


def _quota(body: KeyCreate, caller: Caller) -> Quota:
    mine = caller.quota or Quota()
    wished = {name: value for name in Quota.model_fields if (value := getattr(body, name)) is not None}
    quota = mine.model_copy(update=wished)
    excess = quota.beyond(mine) if caller.quota is not None else ()
    if excess:
        limits = ", ".join(f"{name} {getattr(mine, name):g}" for name in excess)
        raise QuotaTooLargeError(f"a key cannot have more than the one that makes it: at most {limits}")
    return quota
