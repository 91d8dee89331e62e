"""The pages of automation: watches and what they found, endpoints and what they were told."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, status
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from service.api.callers import Caller
from service.api.dependencies import (
    CallerDep,
    NotificationsDep,
    NotificationWriter,
    ServicesDep,
    WatchesDep,
    WatchReader,
    WatchWriter,
)
from service.api.watches import WatchBody, rules_of
from service.notifications.endpoints import create_endpoint, resend_delivery, send_trial
from service.notifications.errors import NotificationError
from service.notifications.schema import EndpointRules
from service.notifications.store import NotificationStore
from service.releases.errors import InvalidWatchError
from service.releases.store import WatchStore
from service.releases.watches import create_watch
from service.web.dependencies import PagesDep, Token
from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, PRESETS

router = APIRouter(include_in_schema=False, default_response_class=Response)
_SHOWN = 20
Text = Annotated[str, Form(max_length=2000)]


@router.get("/watches")
def watches_page(request: Request, pages: PagesDep, caller: WatchReader, watches: WatchesDep) -> Response:
    """List the watches of the caller and what each found."""
    return pages.render(request, "watches.html", **_watches(watches, caller))


@router.post("/watches")
def create_watch_form(
    request: Request,
    pages: PagesDep,
    caller: WatchWriter,
    services: ServicesDep,
    watches: WatchesDep,
    name: Text = "",
    pattern: Text = "",
    recipe: Text = DEFAULT_RECIPE,
    destination: Text = "",
    csrf_token: Token = "",
) -> Response:
    """Make a watch and go back to the list, or say what is wrong."""
    pages.guard.check(request, csrf_token)
    try:
        body = WatchBody(name=name, pattern=pattern, recipes=(recipe,), destination=destination)
        create_watch(rules_of(body), owner=caller.owner, store=watches, vault=services.vault)
    except (ValidationError, RecipeError, InvalidWatchError) as error:
        complaint = _sentence(error)
        context = _watches(watches, caller, complaint=complaint)
        return pages.render(request, "watches.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return RedirectResponse("/watches", status.HTTP_303_SEE_OTHER)


@router.post("/watches/{watch_id}/delete")
def delete_watch_form(
    request: Request, pages: PagesDep, caller: WatchWriter, watches: WatchesDep, watch_id: str, csrf_token: Token = ""
) -> Response:
    """Delete a watch and go back to the list."""
    pages.guard.check(request, csrf_token)
    watches.delete(watch_id, owner=caller.owner)
    return RedirectResponse("/watches", status.HTTP_303_SEE_OTHER)


@router.get("/webhooks")
def webhooks_page(request: Request, pages: PagesDep, caller: NotificationWriter, store: NotificationsDep) -> Response:
    """List the endpoints of the caller and the latest messages to each."""
    return pages.render(request, "webhooks.html", **_endpoints(store, caller.owner))


@router.post("/webhooks")
def create_endpoint_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    services: ServicesDep,
    store: NotificationsDep,
    url: Text = "",
    form: Text = "standard",
    csrf_token: Token = "",
) -> Response:
    """Make an endpoint and show its secret, this once."""
    pages.guard.check(request, csrf_token)
    try:
        made = create_endpoint(
            EndpointRules.model_validate({"url": url, "form": form}),
            owner=caller.owner,
            store=store,
            vault=services.vault,
            allow_private=services.settings.allow_private_webhooks,
        )
    except (ValidationError, NotificationError) as error:
        context = _endpoints(store, caller.owner, complaint=_sentence(error))
        return pages.render(request, "webhooks.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return pages.render(request, "webhooks.html", **_endpoints(store, caller.owner, secret=made.secret))


@router.post("/webhooks/{endpoint_id}/{action}")
def change_endpoint_form(
    request: Request,
    pages: PagesDep,
    caller: NotificationWriter,
    store: NotificationsDep,
    endpoint_id: str,
    action: str,
    csrf_token: Token = "",
) -> Response:
    """Send a trial message to an endpoint, or delete it, and go back to the list."""
    pages.guard.check(request, csrf_token)
    if action == "test":
        send_trial(endpoint_id, owner=caller.owner, store=store)
    elif action == "delete":
        store.delete(endpoint_id, owner=caller.owner)
    return RedirectResponse("/webhooks", status.HTTP_303_SEE_OTHER)


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
    """Send a message again and go back to the list."""
    pages.guard.check(request, csrf_token)
    resend_delivery(endpoint_id, delivery_id, owner=caller.owner, store=store)
    return RedirectResponse("/webhooks", status.HTTP_303_SEE_OTHER)


@router.get("/queue")
def queue_page(request: Request, pages: PagesDep, _caller: CallerDep, services: ServicesDep) -> Response:
    """Show the queue and the workers, by the numbers that Prometheus gets too."""
    families = [
        (family.documentation, [(", ".join(sample.labels.values()), sample.value) for sample in family.samples])
        for family in services.metrics.collect()
    ]
    return pages.render(request, "queue.html", families=families)


def _watches(store: WatchStore, caller: Caller, *, complaint: str | None = None) -> dict[str, Any]:
    return {
        "watches": [(watch, store.releases(watch.id, limit=_SHOWN)) for watch in store.list(caller.owner)],
        "may_write": "watches:write" in caller.scopes,
        "recipes": PRESETS.values(),
        "default": DEFAULT_RECIPE,
        "complaint": complaint,
    }


def _endpoints(
    store: NotificationStore, owner: str, *, complaint: str | None = None, secret: str | None = None
) -> dict[str, Any]:
    found = [(endpoint, store.deliveries(endpoint.id, limit=_SHOWN)) for endpoint in store.list(owner)]
    return {"endpoints": found, "complaint": complaint, "secret": secret}


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return " ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}." for item in error.errors())
    return str(error)
