"""The schema of the API, with what FastAPI cannot know: how errors look."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from service.api.schemas import Problem

_REFERENCE = "#/components/schemas/{model}"


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
    return schema
