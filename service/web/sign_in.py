"""The pages of keys: signing in with one, making and revoking them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, status
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from service.api.callers import SESSION_COOKIE, SESSION_LIFETIME, KeyHolders
from service.api.dependencies import KeysDep, KeyWriter, ServicesDep
from service.api.key_schemas import KeyCreate
from service.api.keys import new_key
from service.keys import ALL_SCOPES
from service.keys.errors import InvalidKeyError, MissingScopeError
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token

router = APIRouter(include_in_schema=False, default_response_class=Response)
_LIFETIMES = (30, 90, 365)


@router.get("/sign-in")
def sign_in_page(request: Request, pages: PagesDep, following: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Ask for a key."""
    return pages.render(request, "sign_in.html", following=_local(following), complaint=None)


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
        return pages.render(
            request,
            "sign_in.html",
            status=status.HTTP_401_UNAUTHORIZED,
            following=_local(following),
            complaint=str(error),
        )
    response = RedirectResponse(_local(following), status.HTTP_303_SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request, pages: PagesDep, csrf_token: Token = "") -> Response:
    """End the session in this browser."""
    pages.guard.check(request, csrf_token)
    response = RedirectResponse("/sign-in", status.HTTP_303_SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.get("/keys")
def keys_page(request: Request, pages: PagesDep, caller: KeyWriter, keys: KeysDep) -> Response:
    """List the keys of the owner, with a form for another."""
    return pages.render(request, "keys.html", **_keys_context(keys.list(caller.owner)))


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
            context = _keys_context(keys.list(caller.owner), complaint=complaint)
            return pages.render(request, "keys.html", status=status.HTTP_422_UNPROCESSABLE_CONTENT, **context)
    return pages.render(
        request, "keys.html", **_keys_context(keys.list(caller.owner), new_text=text, new_name=key.name)
    )


@router.post("/keys/{key_id}/revoke")
def revoke_key(
    request: Request, pages: PagesDep, caller: KeyWriter, keys: KeysDep, key_id: str, csrf_token: Token = ""
) -> Response:
    """Revoke a key and go back to the list."""
    pages.guard.check(request, csrf_token)
    keys.revoke(key_id, owner=caller.owner, now=datetime.now(UTC))
    return RedirectResponse("/keys", status.HTTP_303_SEE_OTHER)


def _keys_context(keys: object, **more: str) -> dict[str, Any]:
    defaults = {"complaint": None, "new_text": None, "new_name": None}
    return {"keys": keys, "scopes": ALL_SCOPES, "lifetimes": _LIFETIMES, "now": datetime.now(UTC), **defaults, **more}


def _local(path: str) -> str:
    # Only a path of ours: `//host` and `/\host` lead elsewhere.
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
