"""Webhook endpoints and deliveries over REST: who receives which events, and the outcome of every message."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import BaseModel, Field

from service.edge.dependencies import NotificationsDep, NotificationWriter, ServicesDep
from service.edge.problems import problem_responses
from service.notifications.endpoints import (
    change_endpoint,
    create_endpoint,
    resend_delivery,
    rotate_secret,
    send_trial,
)
from service.notifications.schema import Attempt, Delivery, Endpoint, EndpointRules, NewEndpoint

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["notifications"])
EndpointId = Annotated[str, Path(pattern=r"^endpoint_[0-9a-z]{26}$", examples=["endpoint_01k9z6h3v2m8q4t7w1x5y0c3d6"])]
DeliveryId = Annotated[str, Path(pattern=r"^msg_[0-9a-z]{26}$", examples=["msg_01k9z6h3v2m8q4t7w1x5y0c3d6"])]
_NOT_FOUND = (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
_BODY = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class EndpointList(BaseModel):
    """The endpoints of the caller, newest first."""

    endpoints: list[Endpoint]


class RotatedSecret(BaseModel):
    """A new secret."""

    secret: str = Field(description="Shown this once. For a day, messages carry a signature of the old one too.")


class DeliveryList(BaseModel):
    """The messages to an endpoint, newest first."""

    deliveries: list[Delivery]


class DeliveryDetail(BaseModel):
    """One message with every try."""

    delivery: Delivery
    attempts: list[Attempt]


@router.post(
    "",
    operation_id="createWebhookEndpoint",
    summary="Receive job events",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(*_BODY),
)
def create(
    body: EndpointRules,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    response: Response,
) -> NewEndpoint:
    """Store an endpoint. The secret to verify its messages with is in this answer and nowhere else."""
    response.headers["Cache-Control"] = "no-store"
    return create_endpoint(
        body,
        owner=caller.owner,
        store=store,
        vault=services.vault,
        allow_private=services.settings.allow_private_webhooks,
        mail_server=services.settings.mail_server,
    )


@router.get("", operation_id="listWebhookEndpoints", summary="List endpoints", responses=problem_responses())
def list_endpoints(caller: NotificationWriter, store: NotificationsDep) -> EndpointList:
    """Return every endpoint of the caller."""
    return EndpointList(endpoints=list(store.list(caller.owner)))


@router.get(
    "/{endpoint_id}",
    operation_id="getWebhookEndpoint",
    summary="Look at an endpoint",
    responses=problem_responses(*_NOT_FOUND),
)
def get_endpoint(endpoint_id: EndpointId, caller: NotificationWriter, store: NotificationsDep) -> Endpoint:
    """Return an endpoint: whether it is on and, when it was switched off for what it answered, why."""
    return store.get(endpoint_id, owner=caller.owner)


@router.put(
    "/{endpoint_id}",
    operation_id="replaceWebhookEndpoint",
    summary="Change an endpoint",
    responses=problem_responses(HTTPStatus.NOT_FOUND, *_BODY),
)
def replace(
    endpoint_id: EndpointId,
    body: EndpointRules,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
) -> Endpoint:
    """Replace the rules of an endpoint; switching one on that was disabled forgets its failures."""
    return change_endpoint(
        endpoint_id,
        body,
        owner=caller.owner,
        store=store,
        allow_private=services.settings.allow_private_webhooks,
        mail_server=services.settings.mail_server,
    )


@router.delete(
    "/{endpoint_id}",
    operation_id="deleteWebhookEndpoint",
    summary="Stop being told",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(*_NOT_FOUND),
)
def delete(endpoint_id: EndpointId, caller: NotificationWriter, store: NotificationsDep) -> None:
    """Delete an endpoint and its log."""
    store.delete(endpoint_id, owner=caller.owner)


@router.post(
    "/{endpoint_id}/rotate",
    operation_id="rotateWebhookSecret",
    summary="Replace the secret",
    responses=problem_responses(*_NOT_FOUND),
)
def rotate(
    endpoint_id: EndpointId,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    response: Response,
) -> RotatedSecret:
    """Make a new secret; the old one still signs beside it for a day."""
    response.headers["Cache-Control"] = "no-store"
    return RotatedSecret(secret=rotate_secret(endpoint_id, owner=caller.owner, store=store, vault=services.vault))


@router.post(
    "/{endpoint_id}/test",
    operation_id="testWebhookEndpoint",
    summary="Send a trial message",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(*_NOT_FOUND),
)
def test(endpoint_id: EndpointId, caller: NotificationWriter, store: NotificationsDep) -> Delivery:
    """Queue a message that only tests the endpoint; its delivery tells what came back. To one that is off, it waits."""
    return send_trial(endpoint_id, owner=caller.owner, store=store)


@router.get(
    "/{endpoint_id}/deliveries",
    operation_id="listDeliveries",
    summary="List the messages to an endpoint",
    responses=problem_responses(*_NOT_FOUND),
)
def list_deliveries(
    endpoint_id: EndpointId,
    caller: NotificationWriter,
    store: NotificationsDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DeliveryList:
    """Return messages with the outcome of each."""
    store.get(endpoint_id, owner=caller.owner)
    return DeliveryList(deliveries=list(store.deliveries(endpoint_id, limit=limit)))


@router.get(
    "/{endpoint_id}/deliveries/{delivery_id}",
    operation_id="getDelivery",
    summary="Look at a message",
    responses=problem_responses(*_NOT_FOUND),
)
def get_delivery(
    endpoint_id: EndpointId, delivery_id: DeliveryId, caller: NotificationWriter, store: NotificationsDep
) -> DeliveryDetail:
    """Return a message with every try and what came back."""
    store.get(endpoint_id, owner=caller.owner)
    delivery = store.delivery(endpoint_id, delivery_id)
    return DeliveryDetail(delivery=delivery, attempts=list(store.attempts(delivery_id)))


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/resend",
    operation_id="resendDelivery",
    summary="Send a message again",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(*_NOT_FOUND),
)
def resend(
    endpoint_id: EndpointId, delivery_id: DeliveryId, caller: NotificationWriter, store: NotificationsDep
) -> Delivery:
    """Make a message due now, whatever became of it; it keeps its id, so that receivers can drop repeats.

    To an endpoint that is switched off it waits until that is on.
    """
    return resend_delivery(endpoint_id, delivery_id, owner=caller.owner, store=store)
