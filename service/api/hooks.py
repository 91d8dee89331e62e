"""Webhooks of the Hub come in here. They only shorten the delay: the poller finds what they miss."""

from http import HTTPStatus
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, Header, Request, status
from pydantic import BaseModel, Field

from service.api.dependencies import ServicesDep, WatchesDep
from service.api.problems import problem_responses
from service.api.watches import WatchId
from service.releases.intake import take_delivery

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])


class Taken(BaseModel):
    """How a delivery was taken."""

    new_releases: int = Field(description="0 for a delivery that came before, or that is about something else.")


@router.post(
    "/huggingface/{watch_id}",
    operation_id="takeHubDelivery",
    summary="Take a webhook of the Hub",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
)
async def take_hub_delivery(
    watch_id: WatchId,
    request: Request,
    services: ServicesDep,
    watches: WatchesDep,
    _payload: Annotated[dict[str, Any], Body(description="As the Hub documents it, version 3.")],
    secret: Annotated[str | None, Header(alias="X-Webhook-Secret", max_length=256)] = None,
) -> Taken:
    """Note what was released and answer at once; the work is done later, after looking at the Hub again.

    Every delivery that carries the secret gets a 2xx, whatever it is about: the Hub suspends webhooks that fail.
    """
    body = await request.body()
    found = await run_sync(
        lambda: take_delivery(body, watch_id=watch_id, secret=secret, store=watches, vault=services.vault)
    )
    if found:
        services.wake()
    return Taken(new_releases=found)
