"""The sign-in page, and the pages of keys: signing in with one, making and revoking them."""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, status
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from service.edge.callers import KeyHolders
from service.edge.dependencies import KeysDep, KeyWriter, Services, ServicesDep
from service.edge.new_key import new_key
from service.edge.sessions import SESSION_COOKIE
from service.keys.errors import InvalidKeyError, MissingScopeError
from service.keys.schema import KeyCreate
from service.keys.store import KeyStore
from service.submissions.caller import Caller
from service.web.cookies import end_session, local_path, set_session
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token

router = APIRouter(include_in_schema=False, default_response_class=Response)
ACCOUNT_START_PATH = "/sign-in/huggingface"
_LIFETIMES = (30, 90, 365)


@router.get("/sign-in")
def sign_in_page(
    request: Request, pages: PagesDep, services: ServicesDep, following: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """Offer the ways to sign in."""
    return pages.render(request, "sign_in.html", **sign_in_context(services, following))


@router.post("/sign-in")
def sign_in(
    request: Request,
    pages: PagesDep,
    services: ServicesDep,
    key: Annotated[str, Form(max_length=200)] = "",
    following: Annotated[str, Form(alias="next")] = "/",
    csrf_token: Token = "",
) -> Response:
    """Open a session for the holder of a key."""
    pages.guard.check(request, csrf_token)
    if not isinstance(services.callers, KeyHolders):
        return RedirectResponse("/", status.HTTP_303_SEE_OTHER)
    try:
        session = services.callers.open_session(key.strip())
    except InvalidKeyError as error:
        context = sign_in_context(services, following, complaint=str(error))
        return pages.render(request, "sign_in.html", status=status.HTTP_401_UNAUTHORIZED, **context)
    response = RedirectResponse(local_path(following), status.HTTP_303_SEE_OTHER)
    set_session(response, session, secure=request.url.scheme == "https")
    return response


@router.post("/sign-out")
def sign_out(request: Request, pages: PagesDep, services: ServicesDep, csrf_token: Token = "") -> Response:
    """End the session, in this browser and wherever its cookie was copied to."""
    pages.guard.check(request, csrf_token)
    if isinstance(services.callers, KeyHolders):
        services.callers.close_session(request.cookies.get(SESSION_COOKIE, ""))
    response = RedirectResponse("/sign-in", status.HTTP_303_SEE_OTHER)
    end_session(response)
    return response


def sign_in_context(
    services: Services, following: str, *, complaint: str | None = None, failure: str | None = None
) -> dict[str, Any]:
    """Return what the sign-in page shows.

    Args:
        complaint: What is wrong with the key that was typed.
        failure: Why a sign-in with an account did not work.
    """
    path = local_path(following)
    return {
        "following": path,
        "complaint": complaint,
        "failure": failure,
        "account_url": None if services.accounts is None else account_sign_in_url(services, path),
        "keeps_hub_access": services.settings.keeps_hub_access,
    }


def account_sign_in_url(services: Services, following: str) -> str:
    """Return where a sign-in with Hugging Face starts: at the address it will come back to, whose cookie it needs."""
    return f"{services.settings.public_address}{ACCOUNT_START_PATH}?{urlencode({'next': following})}"


@router.get("/keys")
def keys_page(request: Request, pages: PagesDep, caller: KeyWriter, keys: KeysDep) -> Response:
    """List the keys of the owner, with a form for another."""
    return pages.render(request, "keys.html", **_keys_context(caller, keys))


@router.post("/keys")
async def create_key(request: Request, pages: PagesDep, caller: KeyWriter, keys: KeysDep) -> Response:
    """Make a key and show its text, this once."""
    async with request.form() as form:
        pages.guard.check(request, str(form.get(FIELD, "")))
        days = str(form.get("expires_in_days", ""))
        try:
            body = KeyCreate.model_validate(
                {"name": form.get("name"), "scopes": form.getlist("scopes"), "expires_in_days": days or None}
            )
            key, text = new_key(body, caller, keys)
        except (ValidationError, MissingScopeError) as error:
            complaint = str(error) if isinstance(error, MissingScopeError) else "Give it a name and at least one right."
            context = _keys_context(caller, keys, complaint=complaint)
            return pages.render(request, "keys.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return pages.render(request, "keys.html", **_keys_context(caller, keys, new_text=text, new_name=key.name))


@router.post("/keys/{key_id}/revoke")
def revoke_key(
    request: Request, pages: PagesDep, caller: KeyWriter, keys: KeysDep, key_id: str, csrf_token: Token = ""
) -> Response:
    """Revoke a key and go back to the list."""
    pages.guard.check(request, csrf_token)
    keys.revoke(key_id, owner=caller.owner, now=datetime.now(UTC))
    return RedirectResponse("/keys", status.HTTP_303_SEE_OTHER)


def _keys_context(caller: Caller, keys: KeyStore, **more: str) -> dict[str, Any]:
    shown = {
        "keys": keys.list(caller.owner),
        "scopes": caller.scopes,
        "lifetimes": _LIFETIMES,
        "now": datetime.now(UTC),
    }
    return {**shown, "complaint": None, "new_text": None, "new_name": None, **more}
