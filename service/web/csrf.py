"""Proof that a form was filled in on our own page: a token in the form that fits the visitor's cookie."""

import hashlib
import hmac
import secrets
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

COOKIE: Final = "srr_form"
FIELD: Final = "csrf_token"


class ForgedFormError(Exception):
    """A form that did not come from a page of ours, or whose cookie was lost."""

    code = "forged_form"


class FormGuard:
    """Makes and checks the tokens. Stateless: the token is a keyed hash of a random cookie."""

    def __init__(self, secret: str | None) -> None:
        self._key = secret.encode() if secret else secrets.token_bytes(32)

    def token(self, request: Request) -> tuple[str, str]:
        """Return the cookie of this visitor, a fresh one if needed, and the token for its forms."""
        cookie = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        return cookie, self._sign(cookie)

    def remember(self, request: Request, response: Response, cookie: str) -> None:
        """Send the cookie along unless the visitor has it."""
        if request.cookies.get(COOKIE) != cookie:
            secure = request.url.scheme == "https"
            response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure, path="/")

    def check(self, request: Request, token: str) -> None:
        """Raise ForgedFormError unless the form came from one of our pages."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise ForgedFormError("this form was sent from another site")
        cookie = request.cookies.get(COOKIE, "")
        if not cookie or not hmac.compare_digest(self._sign(cookie).encode(), _bytes(token)):
            raise ForgedFormError("this form is too old or cookies are blocked; load the page again and resend it")

    def _sign(self, cookie: str) -> str:
        return hmac.new(self._key, _bytes(cookie), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    # A form may hold any text; strings that are not ASCII cannot be compared in constant time.
    return text.encode(errors="replace")
