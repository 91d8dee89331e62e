"""The handlers that turn every expected error into a problem document, or into a page."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.edge.bodies import unreadable_body_problem
from service.edge.callers import whole_seconds
from service.edge.problem import Problem
from service.edge.problems import http_problem, invalid_request_problem, known_problem, to_response, unexpected_problem
from service.edge.statuses import STATUS, status_of

RenderPage = Callable[[Request, Problem], Response]


def install_error_handlers(app: FastAPI, *, page: RenderPage, of_pages: Mapping[type[Exception], HTTPStatus]) -> None:
    """Make every expected error of the application a problem document, or a page where a person is looking.

    Args:
        of_pages: The status of each error that only a page raises.
    """

    async def known(request: Request, error: Exception) -> Response:
        status = of_pages.get(type(error)) or status_of(error)
        return _answer(request, known_problem(request, error, status), page, headers_of(error, status))

    async def invalid(request: Request, error: Exception) -> Response:
        failure = cast("RequestValidationError", error)
        problem = unreadable_body_problem(request, failure) or invalid_request_problem(request, failure)
        return _answer(request, problem, page)

    async def http(request: Request, error: Exception) -> Response:
        failure = cast("HTTPException", error)
        problem = unreadable_body_problem(request, failure) or http_problem(request, failure)
        return _answer(request, problem, page, failure.headers)

    for error_type in (*STATUS, *of_pages):
        app.add_exception_handler(error_type, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def answer_unexpected(page: RenderPage) -> Callable[[Request], Response]:
    """Return what answers a request that failed by a bug of ours."""

    def answer(request: Request) -> Response:
        return _answer(request, unexpected_problem(request), page)

    return answer


def _answer(request: Request, problem: Problem, page: RenderPage, headers: Mapping[str, str] | None = None) -> Response:
    if not wants_page(request):
        return to_response(problem, headers)
    response = page(request, problem)
    response.headers.update(headers or {})
    return response


def headers_of(error: Exception, status: HTTPStatus) -> dict[str, str]:
    """Return what a client needs besides the document: how to sign in, when to come back."""
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        headers["Retry-After"] = str(whole_seconds(retry_after))
    return headers


def wants_page(request: Request) -> bool:
    """Tell whether a person in a browser asked, rather than a program."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")
