"""Webhooks of the Hub come in here. They only shorten the delay: the poller finds what they miss."""

from http import HTTPStatus
from typing import Annotated

import structlog
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Request, status
from pydantic import BaseModel, Field

from service.api.watches import WatchId
from service.edge.dependencies import ServicesDep, WatchesDep
from service.edge.problems import problem_responses
from service.releases.errors import HookPayloadError
from service.releases.intake import authentic_watch, take_delivery
from service.releases.schema import Watch

_log = structlog.get_logger(__name__)

MAX_DELIVERY_BYTES = 1_048_576
"""A delivery of a thousand refs takes about a tenth of it."""
_DELIVERY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "title": "Delivery", "description": "As the Hub documents it, version 3."}
            }
        },
    }
}
router = APIRouter(prefix="/v1/hooks", tags=["hooks"])


class Taken(BaseModel):
    """How a delivery was taken."""

    new_releases: int = Field(description="0 for a delivery that came before, or that is about something else.")


def get_authentic_watch(
    watch_id: WatchId,
    services: ServicesDep,
    watches: WatchesDep,
    secret: Annotated[str | None, Header(alias="X-Webhook-Secret", max_length=256)] = None,
) -> Watch:
    """Return the watch whose secret a request carries; its body is not looked at before."""
    return authentic_watch(watch_id, secret=secret, store=watches, vault=services.vault)


@router.post(
    "/huggingface/{watch_id}",
    operation_id="takeHubDelivery",
    summary="Take a webhook of the Hub",
    status_code=status.HTTP_202_ACCEPTED,
    openapi_extra=_DELIVERY,
    responses=problem_responses(
        HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
    ),
)
async def take_hub_delivery(
    request: Request,
    watch: Annotated[Watch, Depends(get_authentic_watch)],
    services: ServicesDep,
    watches: WatchesDep,
) -> Taken:
    """Note what was released and answer at once; the work is done later, after looking at the Hub again.

    Every delivery that carries the secret gets a 2xx, whatever it is about: the Hub suspends webhooks that fail. One
    that cannot be understood, or that is longer than a mebibyte, is ignored.
    """
    body = await _read(request)
    try:
        found = await run_sync(lambda: take_delivery(body, watch, store=watches))
    except HookPayloadError as error:
        _log.warning("delivery_ignored", watch_id=watch.id, num_bytes=len(body), reason=str(error))
        return Taken(new_releases=0)
    if found:
        services.wake()
    return Taken(new_releases=found)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        # The rest is read and dropped, because a sender that cannot finish takes the connection for broken.
        body += chunk[: MAX_DELIVERY_BYTES + 1 - len(body)]
    return bytes(body)
