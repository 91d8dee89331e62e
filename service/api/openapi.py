"""The schema of the API, with what FastAPI cannot know: how errors look."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from service.api.problems import problem_responses
from service.api.schemas import Problem

_REFERENCE = "#/components/schemas/{model}"
_SCHEME = "apiKey"
_KEY = "An API key, as `Authorization: Bearer srr_...`. Not needed where nobody signs in (the embedded service)."
_OPEN = frozenset({"/livez", "/readyz", "/v1/recipes"})
_SIGNED = "/v1/hooks/"
"""The Hub signs in to these with the secret of a watch."""


def install_openapi(app: FastAPI) -> None:
    """Complete the generated schema; it is made once, at the first request for it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this as the way


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    _, definitions = models_json_schema([(Problem, "serialization")], ref_template=_REFERENCE)
    problems: Mapping[str, Any] = definitions["$defs"]
    schema["components"]["schemas"] |= problems
    schema["components"]["securitySchemes"] = {_SCHEME: {"type": "http", "scheme": "bearer", "description": _KEY}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            _complete(operation, is_open=path in _OPEN or path.startswith(_SIGNED))
    return schema


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    """Add what every operation may answer with, whatever it does: about the caller, and about the body."""
    statuses = []
    if not is_open:
        operation["security"] = [{_SCHEME: []}, {}]
        statuses += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS]
    if "requestBody" in operation:
        statuses += [HTTPStatus.BAD_REQUEST, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE]
    for status, response in problem_responses(*statuses).items():
        operation["responses"].setdefault(str(status), response)
