"""Problem documents (RFC 9457): how each is worded, and how it is described to clients."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Tag, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.edge.problem import Problem, ProblemField
from service.submissions.refusal import SubmissionRefusedError
from srr_core.errors import RecipeError
from srr_core.recipe import Recipe
from srr_core.recipe.complaints import complaint

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_FIELDS = 20
"""Wrong fields that an answer names; a body of nonsense has as many as it has fields."""
_MAX_FIELD, _MAX_MESSAGE = 200, 500
"""Characters of one of them: both may repeat what was sent."""
_SHOWN_HOST = 100
"""Characters of a foreign Host header that are sent back; a header may have thousands."""


def problem_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems an operation may answer with."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


def request_id_of(request: Request) -> str | None:
    """Return the id of a request, or None outside the middleware that gives it."""
    return getattr(request.state, "request_id", None)


def to_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return the document as a response."""
    return JSONResponse(problem.model_dump(mode="json"), problem.status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def known_problem(request: Request, error: Exception, status: HTTPStatus) -> Problem:
    """Return the problem of an exception of ours, which has a `code` and a sentence."""
    return new_problem(
        request,
        status,
        code=str(getattr(error, "code", "error")),
        detail=str(error),
        errors=problem_fields(error),
    )


def invalid_request_problem(request: Request, error: RequestValidationError) -> Problem:
    """Return the problem of a request that does not fit its schema."""
    items = error.errors()
    return new_problem(
        request,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code="invalid_request",
        detail="The request is not valid; `errors` names each wrong field." + _more(items),
        errors=[_invalid_field(request, item) for item in items[:MAX_FIELDS]],
    )


def http_problem(request: Request, error: HTTPException) -> Problem:
    """Return the problem of an error that the framework raised: no such route, method not allowed."""
    status = HTTPStatus(error.status_code)
    return new_problem(request, status, code=_code(status), detail=str(error.detail or status.phrase))


def plain_problem(request: Request, status: HTTPStatus) -> Problem:
    """Return the problem of a status that says it all."""
    return new_problem(request, status, code=_code(status), detail=f"{status.phrase}. {status.description}".strip())


def unknown_host_problem(request: Request) -> Problem:
    """Return the problem of a Host header that is not ours."""
    host = request.headers.get("host", "")[:_SHOWN_HOST]
    return new_problem(
        request,
        HTTPStatus.BAD_REQUEST,
        code="unknown_host",
        detail=f"This service does not answer to the host {host!r}: use one of its own, or add it to "
        "SERVICE_ALLOWED_HOSTS.",
    )


def unexpected_problem(request: Request) -> Problem:
    """Return the problem of a bug of ours, which tells the client nothing but where to find it in the log."""
    return new_problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal_error",
        detail="Something went wrong on our side. Report the request id if it happens again.",
    )


def problem_fields(error: Exception) -> list[ProblemField]:
    """Return the fields an exception of ours blames: every obstacle, or what is wrong in a recipe."""
    if isinstance(error.__cause__, SubmissionRefusedError):
        return [
            ProblemField(field=one.field, message=str(one.error), code=one.error.code)
            for one in error.__cause__.obstacles
        ]
    return recipe_fields(error) if isinstance(error, RecipeError) else []


def recipe_fields(error: RecipeError) -> list[ProblemField]:
    """Return the wrong fields of a recipe, each with its path inside the request."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [ProblemField(field="body.recipe", message=str(error))]
    items = cause.errors(include_url=False)
    return [_field(("body", "recipe", *item["loc"]), complaint(item, Recipe)) for item in items[:MAX_FIELDS]]


def _invalid_field(request: Request, item: Mapping[str, Any]) -> ProblemField:
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    location = tuple(item["loc"])
    members = _members(model)
    if location[:1] == ("body",) and len(location) > 1 and location[1] in members:
        # Which member of the union was meant is no part of the path that the client wrote.
        model, location = members[location[1]], (location[0], *location[2:])
    return _field(location, _complaint(model, item, location))


def _members(annotation: object) -> dict[object, type[BaseModel]]:
    """Return the models of a tagged union by their tags."""
    found: dict[object, type[BaseModel]] = {}
    for member in get_args(annotation):
        model, *marks = get_args(member) or (member,)
        found |= {mark.tag: model for mark in marks if isinstance(mark, Tag)}
    return found


def _complaint(model: object, item: Mapping[str, Any], location: Sequence[int | str]) -> str:
    if not isinstance(model, type) or not issubclass(model, BaseModel) or location[:1] != ("body",):
        return complaint(item)
    return complaint(item, model, location[1:])


def new_problem(
    request: Request, status: HTTPStatus, *, code: str, detail: str, errors: list[ProblemField] | None = None
) -> Problem:
    """Return a problem about this request."""
    return Problem(
        type=f"urn:srr:problem:{code}",
        title=status.phrase,
        status=int(status),
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=request_id_of(request),
        errors=errors or [],
    )


def _field(location: Iterable[object], message: str) -> ProblemField:
    return ProblemField(field=_dotted(location)[:_MAX_FIELD], message=message[:_MAX_MESSAGE])


def _more(items: Sequence[object]) -> str:
    return f" {len(items) - MAX_FIELDS} more are left out." if len(items) > MAX_FIELDS else ""


def _dotted(location: Iterable[object]) -> str:
    return ".".join(str(part) for part in location)


def _code(status: HTTPStatus) -> str:
    return status.phrase.lower().replace(" ", "_").replace("-", "_")
