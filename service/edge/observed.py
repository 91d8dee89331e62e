"""What is kept of every request: a span in the trace it belongs to, and one line in the log."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.edge.middleware import route_of
from service.platform.tracing import continued_span

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_QUIET = ("/livez", "/readyz", "/metrics", "/static/")
"""Asked for every few seconds by machines, or once per page and file: they would drown the rest."""
_log = structlog.get_logger(__name__)


class ObservedRequestsMiddleware:
    """Open a span per request below the caller's own, if it sent one, and log how the request ended.

    Neither holds a path or a query string, only the route's template: ids belong to somebody, and people put secrets
    into addresses. That is also why FastAPI's own telemetry, which records both, is switched off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch one request from its first byte to its last; an event stream ends when its reader leaves."""
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        facts = {"http.request.method": method, "request.id": scope["state"]["request_id"]}
        traceparent = Headers(scope=scope).get("traceparent")
        with continued_span(method, traceparent, facts, kind=SpanKind.SERVER) as span:
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                _describe(span, method, route_of(scope), status)
                _log.info(
                    "request_finished",
                    method=method,
                    route=route_of(scope),
                    status=status,
                    duration_seconds=round(time.perf_counter() - started, 4),
                    **_caller(scope["state"]),
                )


def _describe(span: Span, method: str, route: str | None, status: int | None) -> None:
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)


def _caller(state: Mapping[str, Any]) -> dict[str, Any]:
    key_id = state.get("key_id")
    return {} if key_id is None else {"key_id": key_id}
