"""API keys over REST: made, listed and revoked by whoever holds one that may."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from service.api.key_schemas import KeyList, KeyResource, NewKey
from service.edge.dependencies import KeysDep, KeyWriter
from service.edge.new_key import new_key
from service.edge.problems import problem_responses
from service.keys.schema import ApiKey, KeyCreate

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


def key_resource(key: ApiKey) -> KeyResource:
    """Return a key as its holder sees it."""
    return KeyResource.model_validate(key.model_dump(exclude={"owner"}))
