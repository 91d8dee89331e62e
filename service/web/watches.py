"""The pages of the watches: what is looked for, what was found, and what would have been."""

from collections.abc import Sequence
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Form, Request, status
from starlette.responses import RedirectResponse, Response

from service.edge.dependencies import Services, ServicesDep, WatchesDep, WatchReader, WatchWriter
from service.hub.errors import HubError
from service.platform.clock import utc_now
from service.releases.preview import preview_watch
from service.releases.schema import Preview, Watch, WatchRules
from service.releases.watches import change_watch, create_watch
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token
from service.web.forms import FormError
from service.web.rendering import Pages
from service.web.watch_form import WatchForm, empty_form, form_of, rules, typed_form
from service.web.wording import sentence

router = APIRouter(include_in_schema=False, default_response_class=Response)
_SHOWN, _SHOWN_ALONE = 5, 200
PREVIEW_DAYS = 30


@router.get("/watches")
def watches_page(request: Request, pages: PagesDep, caller: WatchReader, watches: WatchesDep) -> Response:
    """List the watches of the caller and what each found lately."""
    looked = watches.look(caller.owner)
    found = [(watch, watches.releases(watch.id, limit=_SHOWN)) for watch in looked.watches]
    may_write = "watches:write" in caller.scopes
    return pages.render(request, "watches.html", watches=found, unreadable=looked.unreadable, may_write=may_write)


@router.get("/watches/new")
def new_watch_page(request: Request, pages: PagesDep, _caller: WatchWriter) -> Response:
    """Ask for the rules of a new watch."""
    return _form_page(request, pages, empty_form())


@router.post("/watches")
async def create_watch_form(
    request: Request, pages: PagesDep, caller: WatchWriter, services: ServicesDep, watches: WatchesDep
) -> Response:
    """Make a watch and go to its page, or show the form again with what is wrong, or with what it would have done."""
    form, wants_preview = await _read(request, pages)
    try:
        made = rules(form)
        if wants_preview:
            previews = await run_sync(_previews, made, caller.owner, services)
            return _form_page(request, pages, form, previews=previews)
        watch = await run_sync(
            lambda: create_watch(made, owner=caller.owner, store=watches, vault=services.vault),
        )
    except FormError as error:
        return _form_page(request, pages, form, messages=error.messages)
    except HubError as error:
        return _form_page(request, pages, form, messages={"": sentence(str(error))})
    return RedirectResponse(f"/watches/{watch.id}", status.HTTP_303_SEE_OTHER)


@router.get("/watches/{watch_id}")
def watch_page(request: Request, pages: PagesDep, caller: WatchReader, watches: WatchesDep, watch_id: str) -> Response:
    """Show a watch and everything it found."""
    watch = watches.get(watch_id, owner=caller.owner)
    return pages.render(request, "watch.html", watch=watch, releases=watches.releases(watch.id, limit=_SHOWN_ALONE))


@router.get("/watches/{watch_id}/edit")
def edit_watch_page(
    request: Request, pages: PagesDep, caller: WatchWriter, watches: WatchesDep, watch_id: str
) -> Response:
    """Show the rules of a watch in a form."""
    watch = watches.get(watch_id, owner=caller.owner)
    return _form_page(request, pages, form_of(watch), watch=watch)


@router.post("/watches/{watch_id}")
async def change_watch_form(
    request: Request,
    pages: PagesDep,
    caller: WatchWriter,
    services: ServicesDep,
    watches: WatchesDep,
    watch_id: str,
) -> Response:
    """Change the rules of a watch, or show the form again with what is wrong, or with what they would have done."""
    watch = await run_sync(lambda: watches.get(watch_id, owner=caller.owner))
    form, wants_preview = await _read(request, pages, watch)
    try:
        made = rules(form)
        if wants_preview:
            previews = await run_sync(_previews, made, caller.owner, services)
            return _form_page(request, pages, form, watch=watch, previews=previews)
        await run_sync(lambda: change_watch(watch_id, made, owner=caller.owner, store=watches))
    except FormError as error:
        return _form_page(request, pages, form, watch=watch, messages=error.messages)
    except HubError as error:
        return _form_page(request, pages, form, watch=watch, messages={"": sentence(str(error))})
    return RedirectResponse(f"/watches/{watch.id}", status.HTTP_303_SEE_OTHER)


@router.post("/watches/{watch_id}/pause")
def pause_watch_form(
    request: Request,
    pages: PagesDep,
    caller: WatchWriter,
    watches: WatchesDep,
    watch_id: str,
    enabled: Annotated[str, Form(max_length=2)] = "",
    csrf_token: Token = "",
) -> Response:
    """Switch a watch off, or on again, and go back to its page."""
    pages.guard.check(request, csrf_token)
    watch = watches.get(watch_id, owner=caller.owner)
    wanted = WatchRules.model_validate(
        {name: getattr(watch, name) for name in WatchRules.model_fields} | {"enabled": enabled == "on"}
    )
    change_watch(watch.id, wanted, owner=caller.owner, store=watches)
    return RedirectResponse(f"/watches/{watch.id}", status.HTTP_303_SEE_OTHER)


@router.post("/watches/{watch_id}/delete")
def delete_watch_form(
    request: Request, pages: PagesDep, caller: WatchWriter, watches: WatchesDep, watch_id: str, csrf_token: Token = ""
) -> Response:
    """Delete a watch and go back to the list."""
    pages.guard.check(request, csrf_token)
    watches.delete(watch_id, owner=caller.owner)
    return RedirectResponse("/watches", status.HTTP_303_SEE_OTHER)


async def _read(request: Request, pages: Pages, watch: Watch | None = None) -> tuple[WatchForm, bool]:
    async with request.form(max_files=0) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        return typed_form(data, watch.recipes if watch else ()), bool(data.get("preview"))


def _previews(made: WatchRules, owner: str, services: Services) -> Sequence[Preview]:
    watch = Watch(**dict(made), id="preview", owner=owner, created_at=utc_now())
    return preview_watch(
        watch,
        releases=services.hubs.releases,
        hub=services.hubs.source,
        rights=services.watch_rights,
        days=PREVIEW_DAYS,
    )


def _form_page(
    request: Request,
    pages: Pages,
    form: WatchForm,
    *,
    watch: Watch | None = None,
    messages: dict[str, str] | None = None,
    previews: Sequence[Preview] | None = None,
) -> Response:
    return pages.render(
        request,
        "watch_form.html",
        status=status.HTTP_422_UNPROCESSABLE_CONTENT if messages else status.HTTP_200_OK,
        form=form,
        values=form.values,
        watch=watch,
        messages=messages or {},
        previews=previews,
        days=PREVIEW_DAYS,
    )
