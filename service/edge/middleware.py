"""What happens around every request: an id to find it by, headers on every answer, and an answer to every failure."""

import re
import uuid
from collections.abc import Callable
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.edge.callers import rate_limit_headers
from service.edge.problem import Problem
from service.edge.problems import plain_problem, to_response, unknown_host_problem

_log = structlog.get_logger(__name__)
REQUEST_ID_HEADER = "X-Request-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

# Nothing inline and nothing from elsewhere: a script that slipped into a model's name has no way to run.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class RequestIdMiddleware:
    """Give every request an id: the caller's own when it is harmless, otherwise a fresh one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the id to the log and send it back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self.app(scope, receive, send_with_id)


class SecurityHeadersMiddleware:
    """Send the headers that keep a page from running or framing what is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RateLimitHeadersMiddleware:
    """Tell callers what is left of their rate with every answer, errors included.

    A dependency cannot: what it sets is lost when an operation raises, or returns a response of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers where the caller was counted."""

        async def send_with_rate(message: Message) -> None:
            rate = scope["state"].get("rate")
            if message["type"] == "http.response.start" and rate is not None:
                MutableHeaders(scope=message).update(rate_limit_headers(rate))
            await send(message)

        await self.app(scope, receive, send_with_rate if scope["type"] == "http" else send)


class UnexpectedErrorsMiddleware:
    """Log an exception that nobody expected, once and with the id of its request, and answer in our words.

    Starlette's own place for this is outside of every middleware: its answer has no request id and no headers of
    ours, and it raises the exception again for the server to log a second time.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Response]) -> None:
        self.app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer instead of raising; a response that has begun is cut off, which the client can see."""
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http":
                raise
            _log.error("request_failed", route=route_of(scope), exc_info=error)
            if not has_begun:
                await self._answer(Request(scope))(scope, receive, send)


def route_of(scope: Scope) -> str | None:
    """Return the template of the path that was asked for, without anybody's ids; None when nothing is there."""
    return getattr(scope.get("route"), "path", None)


class PlainErrorsMiddleware:
    """Turn the plain-text errors of the middlewares inside, which know nothing of problems, into problems.

    Those are a Host header that is not ours and a body that is too large.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold back a plain-text error and send a problem in its place."""
        is_held = False

        async def send_problem(message: Message) -> None:
            nonlocal is_held
            if message["type"] == "http.response.start" and _is_plain_error(message):
                is_held = True
                await to_response(_problem(Request(scope), HTTPStatus(message["status"])))(scope, receive, send)
            elif not is_held:
                await send(message)

        await self.app(scope, receive, send_problem if scope["type"] == "http" else send)


def _problem(request: Request, status: HTTPStatus) -> Problem:
    # Of the two middlewares inside, only the one that knows our hosts answers 400.
    return unknown_host_problem(request) if status is HTTPStatus.BAD_REQUEST else plain_problem(request, status)


def _is_plain_error(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= HTTPStatus.BAD_REQUEST and content_type.startswith("text/plain")
