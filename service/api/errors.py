"""The one table from an exception to an HTTP status, and the handlers that apply it."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.accounts import errors as accounts
from service.api.bodies import unreadable_body_problem
from service.api.callers import SignInRequiredError, whole_seconds
from service.api.feed import TooManyStreamsError
from service.api.problems import (
    http_problem,
    invalid_request_problem,
    known_problem,
    to_response,
    unexpected_problem,
)
from service.api.refusal import SubmissionRefusedError
from service.api.schemas import Problem
from service.hub import errors as hub
from service.jobs import errors as jobs
from service.keys import errors as keys
from service.notifications import errors as notifications
from service.releases import errors as releases
from service.web.csrf import ForgedFormError
from srr_core.errors import RecipeError, UnsupportedModelError

STATUS: Mapping[type[Exception], HTTPStatus] = {
    RecipeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.JobNotFoundError: HTTPStatus.NOT_FOUND,
    jobs.ReportNotReadyError: HTTPStatus.CONFLICT,
    jobs.JobFinishedError: HTTPStatus.CONFLICT,
    jobs.JobNotRetryableError: HTTPStatus.CONFLICT,
    jobs.IdempotencyConflictError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.InvalidJobError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.CapacityError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.InvalidCursorError: HTTPStatus.BAD_REQUEST,
    jobs.UnstorableTextError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    hub.InvalidRepoIdError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    hub.AccessDeniedError: HTTPStatus.FORBIDDEN,
    hub.DisabledModelError: HTTPStatus.FORBIDDEN,
    hub.UnsafeModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.InvalidWeightsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.LicenseError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.DestinationError: HTTPStatus.FORBIDDEN,
    hub.DestinationConflictError: HTTPStatus.CONFLICT,
    hub.HubUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    hub.HubError: HTTPStatus.BAD_GATEWAY,
    SignInRequiredError: HTTPStatus.UNAUTHORIZED,
    accounts.SignInExpiredError: HTTPStatus.BAD_REQUEST,
    accounts.StateMismatchError: HTTPStatus.BAD_REQUEST,
    accounts.ConsentDeniedError: HTTPStatus.FORBIDDEN,
    accounts.NotAdmittedError: HTTPStatus.FORBIDDEN,
    accounts.HubAccessEndedError: HTTPStatus.FORBIDDEN,
    accounts.ProviderUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    accounts.SignInError: HTTPStatus.BAD_GATEWAY,
    keys.InvalidKeyError: HTTPStatus.UNAUTHORIZED,
    keys.MissingScopeError: HTTPStatus.FORBIDDEN,
    keys.KeyNotFoundError: HTTPStatus.NOT_FOUND,
    keys.QuotaTooLargeError: HTTPStatus.FORBIDDEN,
    keys.QuotaExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    keys.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    releases.WatchNotFoundError: HTTPStatus.NOT_FOUND,
    releases.InvalidWatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    releases.HookForbiddenError: HTTPStatus.FORBIDDEN,
    releases.HookPayloadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    notifications.EndpointNotFoundError: HTTPStatus.NOT_FOUND,
    notifications.DeliveryNotFoundError: HTTPStatus.NOT_FOUND,
    notifications.InvalidEndpointError: HTTPStatus.UNPROCESSABLE_ENTITY,
    notifications.UnsafeAddressError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ForgedFormError: HTTPStatus.FORBIDDEN,
    TooManyStreamsError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""A subclass without a row of its own has the status of its nearest ancestor; anything else is a 500."""

RenderPage = Callable[[Request, Problem], Response]


def install_error_handlers(app: FastAPI, *, page: RenderPage) -> None:
    """Make every expected error of the application a problem document, or a page where a person is looking."""

    async def known(request: Request, error: Exception) -> Response:
        return _answer(request, known_problem(request, error, status_of(error)), page, headers_of(error))

    async def invalid(request: Request, error: Exception) -> Response:
        failure = cast("RequestValidationError", error)
        problem = unreadable_body_problem(request, failure) or invalid_request_problem(request, failure)
        return _answer(request, problem, page)

    async def http(request: Request, error: Exception) -> Response:
        failure = cast("HTTPException", error)
        problem = unreadable_body_problem(request, failure) or http_problem(request, failure)
        return _answer(request, problem, page, failure.headers)

    for error_type in STATUS:
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


def status_of(error: Exception) -> HTTPStatus:
    """Return the status of an exception whose type, or an ancestor of it, has a row in the table."""
    status = next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)
    # What a submission names is a part of its body: nothing is missing at the address it was sent to.
    is_named_in_body = status is HTTPStatus.NOT_FOUND and isinstance(error.__cause__, SubmissionRefusedError)
    return HTTPStatus.UNPROCESSABLE_ENTITY if is_named_in_body else status


def headers_of(error: Exception) -> dict[str, str]:
    """Return what a client needs besides the document: how to sign in, when to come back."""
    headers = {}
    if status_of(error) is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        headers["Retry-After"] = str(whole_seconds(retry_after))
    return headers


def wants_page(request: Request) -> bool:
    """Tell whether a person in a browser asked, rather than a program."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")
