"""Signing in with Hugging Face: the way there and the way back. Plain links, so that no form leaves our site."""

from datetime import timedelta
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Query, Request, status
from starlette.responses import RedirectResponse, Response

from service.accounts import SIGN_IN_LIFETIME, ProviderAnswer
from service.accounts.errors import SignInError
from service.edge.callers import KeyHolders
from service.edge.dependencies import Services, ServicesDep
from service.edge.statuses import status_of
from service.web.cookies import local_path, set_private_cookie, set_session
from service.web.dependencies import PagesDep
from service.web.hub_access import access_cookie
from service.web.rendering import Pages
from service.web.sign_in import ACCOUNT_START_PATH, sign_in_context

router = APIRouter(include_in_schema=False, default_response_class=Response)

CALLBACK_PATH: Final = f"{ACCOUNT_START_PATH}/callback"
PENDING_COOKIE: Final = "srr_pending_sign_in"
_log = structlog.get_logger(__name__)


@router.get(ACCOUNT_START_PATH)
def leave(
    request: Request, pages: PagesDep, services: ServicesDep, following: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """Send a browser to Hugging Face.

    Another site can make a visitor come here; all it starts is a sign-in of that visitor, bound to their browser.
    """
    if services.accounts is None:
        return _to("/sign-in")
    try:
        departure = services.accounts.begin(local_path(following))
    except SignInError as error:
        return _failed(request, pages, services, error)
    response = _to(departure.url)
    _set_pending(response, departure.cookie, services, lifetime=SIGN_IN_LIFETIME)
    return response


@router.get(CALLBACK_PATH)
def come_back(
    request: Request, pages: PagesDep, services: ServicesDep, state: str = "", code: str = "", error: str = ""
) -> Response:
    """Sign in who comes back from Hugging Face, once: whatever comes of it, the pending sign-in is over."""
    if services.accounts is None or not isinstance(services.callers, KeyHolders):
        return _to("/sign-in")
    answer = ProviderAnswer(state=state, code=code, error=error)
    try:
        arrival = services.accounts.finish(answer, request.cookies.get(PENDING_COOKIE, ""))
        access = access_cookie(arrival.access, services.vault) if services.settings.keeps_hub_access else None
    except SignInError as failure:
        response = _failed(request, pages, services, failure)
    else:
        _log.info("signed_in", owner=arrival.account.owner)
        response = _to(arrival.following)
        session = services.callers.open_account_session(arrival.account)
        set_session(response, session, access=access, secure=_is_secure(services))
    _set_pending(response, "", services, lifetime=timedelta())
    return response


def _failed(request: Request, pages: Pages, services: Services, error: SignInError) -> Response:
    _log.warning("sign_in_failed", code=error.code, reason=str(error))
    context = sign_in_context(services, "/", failure=str(error))
    return pages.render(request, "sign_in.html", status=status_of(error), **context)


def _to(url: str) -> Response:
    response = RedirectResponse(url, status.HTTP_303_SEE_OTHER)
    response.headers["Cache-Control"] = "no-store"
    return response


def _set_pending(response: Response, cookie: str, services: Services, *, lifetime: timedelta) -> None:
    set_private_cookie(
        response, PENDING_COOKIE, cookie, lifetime=lifetime, secure=_is_secure(services), path=ACCOUNT_START_PATH
    )


def _is_secure(services: Services) -> bool:
    # By the address people use: behind a proxy that ends TLS, the request itself does not know.
    return services.settings.public_url.scheme == "https"
