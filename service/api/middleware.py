"""What happens around every request: an id to find it by, and headers that bind the browser."""

import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import plain_problem, to_response, unknown_host_problem
from service.jobs.tracing import continued_span

REQUEST_ID_HEADER = "X-Request-ID"
EXTRA_HEADERS = "extra_headers"
"""Key of `request.state` under which a dependency leaves headers for the answer, errors included."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes, and files (which have no route): they would drown what people and programs ask for."""
_log = structlog.get_logger(__name__)

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
    """Give every request an id, the caller's own when it is harmless, and leave one line about it in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the id to the log and send it back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                headers.update(state.get(EXTRA_HEADERS, {}))
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, time.perf_counter() - began)


class TracingMiddleware:
    """Open a span for every request, below that of the caller if it sent its trace context. No query, no headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the span by the template of the route once that is known."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        with continued_span(method, Headers(scope=scope).get("traceparent"), {"http.request.method": method}) as span:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if (route := _route(scope)) is not None:
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                await send(message)

            await self.app(scope, receive, send_noted)


def _route(scope: Scope) -> str | None:
    route: str | None = getattr(scope.get("route"), "path", None)
    return route


def _log_request(scope: Scope, status: int | None, seconds: float) -> None:
    # The template of the route, not the path: ids belong into fields of their own, and a query may hold a secret.
    route = _route(scope)
    if route in _QUIET_ROUTES or (route is None and status == HTTPStatus.OK):
        return
    _log.info("request_finished", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))


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
                request, status = Request(scope), HTTPStatus(message["status"])
                is_host = status is HTTPStatus.BAD_REQUEST
                problem = unknown_host_problem(request) if is_host else plain_problem(request, status)
                await to_response(problem)(scope, receive, send)
            elif not is_held:
                await send(message)

        await self.app(scope, receive, send_problem if scope["type"] == "http" else send)


def _is_plain_error(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= HTTPStatus.BAD_REQUEST and content_type.startswith("text/plain")
