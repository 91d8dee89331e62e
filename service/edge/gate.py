"""Who is calling is asked before their body is read, and how much of it is read depends on the answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, cast

from anyio.to_thread import run_sync
from fastapi import Request
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge.callers import CallerPolicy
from service.edge.errors import headers_of
from service.edge.problems import known_problem, to_response
from service.edge.statuses import STATUS, status_of
from service.submissions.caller import Caller

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_API, _HOOKS, TEXTS_PATH = "/v1/", "/v1/hooks/", "/v1/texts"
USUAL_BYTES = 262_144
"""A body is parsed and checked on the event loop, where everybody waits: a quarter of a mebibyte takes milliseconds,
and its nonsense makes no more than some thousand errors. The longest recipe has about a hundredth of it."""
PAGE_BYTES = 4_194_304
"""A form may hold two pasted texts; forms are read as a stream of fields, not as a tree."""
ANONYMOUS_BYTES = 16_384
"""What somebody who has not signed in may send to a page: the form that signs them in."""
HOOK_BYTES = 33_554_432
"""Nothing but the secret is looked at before; the operation itself keeps a mebibyte and drops the rest."""


class GateMiddleware:
    """Identify the caller of every request with a body, and let in no more of it than its operation needs.

    FastAPI reads and parses a body before any dependency runs, so a dependency that asks who is calling comes too late.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        """Guard an application whose longest body has `max_body_bytes`."""
        self._app = app
        sizes = (USUAL_BYTES, PAGE_BYTES, ANONYMOUS_BYTES, HOOK_BYTES, max_body_bytes)
        self._limited: Mapping[int, ASGIApp] = {
            size: RequestBodyLimitMiddleware(app, max_body_size=min(size, max_body_bytes)) for size in sizes
        }
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 over REST where nobody has signed in; pages read at most a small form then."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"])
        size = self._size(path)
        if scope["method"] not in _READS and not path.startswith(_HOOKS):
            request = Request(scope)
            refused = await run_sync(_identify, request)
            if refused is not None and path.startswith(_API):
                status = status_of(refused)
                answer = to_response(known_problem(request, refused, status), headers_of(refused, HTTPStatus(status)))
                await answer(scope, receive, send)
                return
            size = size if refused is None else ANONYMOUS_BYTES
        await self._limited[size](scope, receive, send)

    def _size(self, path: str) -> int:
        if path.startswith(_HOOKS):
            return HOOK_BYTES
        if path == TEXTS_PATH:
            return self._max_body_bytes
        return USUAL_BYTES if path.startswith(_API) else PAGE_BYTES


def _identify(request: Request) -> Exception | None:
    policy = cast("CallerPolicy", request.app.state.services.callers)
    try:
        request.state.identified = policy.identify(request)
    except tuple(STATUS) as error:
        request.state.identified = error
        return error
    return None


def identified(request: Request, policy: CallerPolicy) -> Caller:
    """Return the caller, who is asked for and counted once in a request. Raises what the policy raises."""
    known: Caller | Exception | None = getattr(request.state, "identified", None)
    if isinstance(known, Exception):
        raise known
    return known if known is not None else policy.identify(request)
