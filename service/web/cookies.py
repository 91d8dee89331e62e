"""Cookies of people who have signed in, and the paths they may be led to afterwards."""

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from service.edge.sessions import SESSION_COOKIE, SESSION_LIFETIME

ACCESS_COOKIE: Final = "srr_hub_access"
"""Holds the sealed access to the Hub that came with a sign-in."""


def set_private_cookie(
    response: Response, name: str, value: str, *, lifetime: timedelta, secure: bool, path: str = "/"
) -> None:
    """Send a cookie that no script reads and that other sites send along only with a visit (SameSite=Lax)."""
    response.set_cookie(
        name, value, max_age=int(lifetime.total_seconds()), httponly=True, samesite="lax", secure=secure, path=path
    )


def set_session(response: Response, session: str, *, access: str | None = None, secure: bool) -> None:
    """Send the cookie of a session and of its access to the Hub; without one, that of an earlier session goes."""
    set_private_cookie(response, SESSION_COOKIE, session, lifetime=SESSION_LIFETIME, secure=secure)
    if access is None:
        response.delete_cookie(ACCESS_COOKIE)
    else:
        set_private_cookie(response, ACCESS_COOKIE, access, lifetime=SESSION_LIFETIME, secure=secure)


def end_session(response: Response) -> None:
    """Forget everything about who has signed in."""
    response.delete_cookie(SESSION_COOKIE)
    response.delete_cookie(ACCESS_COOKIE)


def local_path(path: str) -> str:
    """Return a path if it is one of ours, otherwise `/`."""
    # `//host` and `/\host` lead elsewhere.
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
