"""The schema of the API, with what FastAPI cannot know: how errors look, and which ones everybody may meet."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from service.api.examples import examples
from service.edge.dependencies import API_KEY
from service.edge.problem import Problem
from service.edge.problems import problem_responses

_REFERENCE = "#/components/schemas/{model}"
_TEXT, _NUMBER = {"schema": {"type": "string"}}, {"schema": {"type": "integer"}}
_RATE = {"RateLimit": _TEXT, "RateLimit-Policy": _TEXT}
_UNREADABLE = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def install_openapi(app: FastAPI) -> None:
    """Complete the generated schema; it is made once, at the first request for it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this as the way


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    _, definitions = models_json_schema([(Problem, "serialization")], ref_template=_REFERENCE)
    problems: Mapping[str, Any] = definitions["$defs"]
    models = schema["components"]["schemas"]
    models |= problems
    for name, example in examples().items():
        models[name]["examples"] = [example]
    for path in schema["paths"].values():
        for operation in path.values():
            _add_common_problems(operation)
    return schema


def _add_common_problems(operation: dict[str, Any]) -> None:
    """Add what an operation may answer because it wants a key, a scope or a body of JSON."""
    for status, response in _common_problems(operation):
        described = operation["responses"].setdefault(str(int(status)), response)
        if status is HTTPStatus.FORBIDDEN and response["description"] not in described["description"]:
            # Forbidden for a reason of the operation's own as well.
            described["description"] += f". {response['description']}"
        described.setdefault("headers", {}).update(response.get("headers", {}))
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _common_problems(operation: Mapping[str, Any]) -> Iterator[tuple[HTTPStatus, dict[str, Any]]]:
    for security in operation.get("security", ()):
        scopes = security[API_KEY.scheme_name]
        yield _problem(HTTPStatus.UNAUTHORIZED, "No API key, or none that is valid.", {"WWW-Authenticate": _TEXT})
        if scopes:
            yield _problem(HTTPStatus.FORBIDDEN, f"The key lacks the scope {' or '.join(scopes)}: `missing_scope`.", {})
        yield _problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Too many requests, or a quota is used up; come back after `Retry-After` seconds.",
            {"Retry-After": _NUMBER} | _RATE,
        )
        yield _problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer; try again in a moment.", {})
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        for status in _UNREADABLE:
            yield status, problem_responses(status)[int(status)]


def _problem(status: HTTPStatus, description: str, headers: Mapping[str, Any]) -> tuple[HTTPStatus, dict[str, Any]]:
    described = problem_responses(status)[int(status)] | {"description": description}
    return status, described | {"headers": dict(headers)} if headers else described
