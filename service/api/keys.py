"""API keys over REST: made, listed and revoked by whoever holds one that may."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from service.api.callers import Caller
from service.api.dependencies import KeysDep, KeyWriter
from service.api.key_schemas import KeyCreate, KeyList, KeyResource, NewKey
from service.api.problems import problem_responses
from service.keys import ApiKey, KeyStore, Quota, issue_key
from service.keys.errors import MissingScopeError, QuotaTooLargeError

router = APIRouter(prefix="/v1/api-keys", tags=["api-keys"])
KeyId = Annotated[str, Path(pattern=r"^[0-9a-z]{16}$", examples=["0123456789abcdef"])]


@router.post(
    "",
    operation_id="createApiKey",
    summary="Make an API key",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(
        HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
    ),
)
def create_api_key(body: KeyCreate, caller: KeyWriter, keys: KeysDep, response: Response) -> NewKey:
    """Make a key for the same owner, with no more rights and no larger quota than the one that asks."""
    issued = new_key(body, caller, keys)
    response.headers["Cache-Control"] = "no-store"
    return NewKey(key=key_resource(issued[0]), text=issued[1])


@router.get("", operation_id="listApiKeys", summary="List API keys", responses=problem_responses())
def list_api_keys(caller: KeyWriter, keys: KeysDep) -> KeyList:
    """Return every key of the caller, also those that are revoked or have expired."""
    return KeyList(keys=[key_resource(key) for key in keys.list(caller.owner)])


@router.delete(
    "/{key_id}",
    operation_id="revokeApiKey",
    summary="Revoke an API key",
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def revoke_api_key(key_id: KeyId, caller: KeyWriter, keys: KeysDep) -> KeyResource:
    """End a key and every session it has opened, at once and for good."""
    return key_resource(keys.revoke(key_id, owner=caller.owner, now=datetime.now(UTC)))


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
    lifetime = None if body.expires_in_days is None else timedelta(days=body.expires_in_days)
    issued = issue_key(keys, name=body.name, owner=caller.owner, scopes=body.scopes, quota=quota, lifetime=lifetime)
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


def key_resource(key: ApiKey) -> KeyResource:
    """Return a key as its holder sees it."""
    return KeyResource.model_validate(key.model_dump(exclude={"owner"}))
