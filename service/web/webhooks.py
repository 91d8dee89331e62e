"""The pages of the webhooks: who is told what, every message, and what came back."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request, status
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from service.edge.dependencies import NotificationsDep, NotificationWriter, ServicesDep
from service.notifications.endpoints import (
    change_endpoint,
    create_endpoint,
    resend_delivery,
    rotate_secret,
    send_trial,
)
from service.notifications.errors import NotificationError
from service.notifications.schema import ALL_TYPES, DEFAULT_TYPES, Endpoint, EndpointRules
from service.notifications.store import NotificationStore
from service.web.dependencies import PagesDep, Token
from service.web.wording import complaints, sentence

router = APIRouter(include_in_schema=False, default_response_class=Response)
PER_PAGE = 25
_MAX_PAGE = 40
"""The store is read from its newest message on, so far pages cost more; a thousand messages are enough to look at."""
_FIELDS = ("url", "types", "form", "description")
FORMS: Final[Mapping[str, str]] = {
    "standard": "Standard Webhooks, signed",
    "slack": "Slack, an incoming webhook",
    "mail": "E-mail",
}
Text = Annotated[str, Form(max_length=2000)]
Types = Annotated[list[str] | None, Form(max_length=len(ALL_TYPES))]


@router.get("/webhooks")
def webhooks_page(request: Request, pages: PagesDep, caller: NotificationWriter, store: NotificationsDep) -> Response:
    """List the endpoints of the caller, with a form for another."""
    return pages.render(request, "webhooks.html", **_list(store, caller.owner))


@router.post("/webhooks")
def create_endpoint_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    url: Text = "",
    form: Text = "standard",
    types: Types = None,
    description: Text = "",
    csrf_token: Token = "",
) -> Response:
    """Make an endpoint and show its secret, this once."""
    pages.guard.check(request, csrf_token)
    typed = {"url": url.strip(), "form": form, "types": types or [], "description": description.strip()}
    try:
        made = create_endpoint(
            EndpointRules.model_validate(typed),
            owner=caller.owner,
            store=store,
            vault=services.vault,
            allow_private=services.settings.allow_private_webhooks,
            mail_server=services.settings.mail_server,
        )
    except (ValidationError, NotificationError) as error:
        context = _list(store, caller.owner) | {"values": typed, "messages": _messages(error)}
        return pages.render(request, "webhooks.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return pages.render(request, "webhook.html", **_one(store, made.endpoint, secret=made.secret))


@router.get("/webhooks/{endpoint_id}")
def endpoint_page(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    page: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 1,
) -> Response:
    """Show an endpoint and the messages to it, newest first."""
    return pages.render(request, "webhook.html", **_one(store, store.get(endpoint_id, owner=caller.owner), page=page))


@router.post("/webhooks/{endpoint_id}")
def change_endpoint_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    endpoint_id: str,
    url: Text = "",
    form: Text = "standard",
    types: Types = None,
    description: Text = "",
    enabled: Text = "",
    csrf_token: Token = "",
) -> Response:
    """Change an endpoint and go back to its page, or show the form again with what is wrong."""
    pages.guard.check(request, csrf_token)
    typed = {"url": url.strip(), "form": form, "types": types or [], "description": description.strip()}
    rules = typed | {"enabled": enabled == "on"}
    before = store.get(endpoint_id, owner=caller.owner)
    try:
        change_endpoint(
            endpoint_id,
            EndpointRules.model_validate(rules),
            owner=caller.owner,
            store=store,
            allow_private=services.settings.allow_private_webhooks,
            mail_server=services.settings.mail_server,
        )
    except (ValidationError, NotificationError) as error:
        context = _one(store, before) | {"values": rules, "messages": _messages(error)}
        return pages.render(request, "webhook.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return RedirectResponse(f"/webhooks/{endpoint_id}", status.HTTP_303_SEE_OTHER)


@router.post("/webhooks/{endpoint_id}/test")
def trial_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    csrf_token: Token = "",
) -> Response:
    """Send a trial message and go back to the endpoint, where what came back will be."""
    pages.guard.check(request, csrf_token)
    send_trial(endpoint_id, owner=caller.owner, store=store)
    return RedirectResponse(f"/webhooks/{endpoint_id}#deliveries", status.HTTP_303_SEE_OTHER)


@router.post("/webhooks/{endpoint_id}/rotate")
def rotate_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    endpoint_id: str,
    csrf_token: Token = "",
) -> Response:
    """Replace the secret of an endpoint and show the new one, this once."""
    pages.guard.check(request, csrf_token)
    secret = rotate_secret(endpoint_id, owner=caller.owner, store=store, vault=services.vault)
    return pages.render(request, "webhook.html", **_one(store, store.get(endpoint_id), secret=secret, is_rotated=True))


@router.post("/webhooks/{endpoint_id}/delete")
def delete_endpoint_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    csrf_token: Token = "",
) -> Response:
    """Delete an endpoint with its messages and go back to the list."""
    pages.guard.check(request, csrf_token)
    store.delete(endpoint_id, owner=caller.owner)
    return RedirectResponse("/webhooks", status.HTTP_303_SEE_OTHER)


@router.get("/webhooks/{endpoint_id}/deliveries/{delivery_id}")
def delivery_page(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    delivery_id: str,
) -> Response:
    """Show a message, every try to send it, and what came back."""
    endpoint = store.get(endpoint_id, owner=caller.owner)
    delivery = store.delivery(endpoint.id, delivery_id)
    tries = store.attempts(delivery.id)
    payload = json.dumps(delivery.payload, indent=2, ensure_ascii=False)
    return pages.render(request, "delivery.html", endpoint=endpoint, delivery=delivery, tries=tries, payload=payload)


@router.post("/webhooks/{endpoint_id}/deliveries/{delivery_id}/resend")
def resend_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    delivery_id: str,
    csrf_token: Token = "",
) -> Response:
    """Send a message again and go to its page, where what came back will be."""
    pages.guard.check(request, csrf_token)
    resend_delivery(endpoint_id, delivery_id, owner=caller.owner, store=store)
    return RedirectResponse(f"/webhooks/{endpoint_id}/deliveries/{delivery_id}", status.HTTP_303_SEE_OTHER)


def _list(store: NotificationStore, owner: str) -> dict[str, Any]:
    found = [(endpoint, store.deliveries(endpoint.id, limit=1)) for endpoint in store.list(owner)]
    values = {"url": "", "form": "standard", "types": DEFAULT_TYPES, "description": ""}
    return {"endpoints": found, "values": values, "messages": {}, "all_types": ALL_TYPES, "forms": FORMS}


def _one(
    store: NotificationStore, endpoint: Endpoint, *, page: int = 1, secret: str | None = None, is_rotated: bool = False
) -> dict[str, Any]:
    first = (page - 1) * PER_PAGE
    found = store.deliveries(endpoint.id, limit=first + PER_PAGE + 1)[first:]
    tries = {delivery.id: store.attempts(delivery.id) for delivery in found[:PER_PAGE]}
    return {
        "endpoint": endpoint,
        "deliveries": [(delivery, tries[delivery.id][-1:]) for delivery in found[:PER_PAGE]],
        "page": page,
        "has_more": len(found) > PER_PAGE and page < _MAX_PAGE,
        "values": endpoint.model_dump(include={*_FIELDS, "enabled"}),
        "messages": {},
        "all_types": ALL_TYPES,
        "forms": FORMS,
        "secret": secret,
        "is_rotated": is_rotated,
    }


def _messages(error: ValidationError | NotificationError) -> dict[str, str]:
    if isinstance(error, ValidationError):
        return complaints(error, _FIELDS, {"types": "Choose at least one."})
    return {"url": sentence(str(error))}
