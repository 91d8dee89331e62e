"""The REST API as a page, made of its own schema: no script, no foreign host."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.web.dependencies import PagesDep

router = APIRouter(include_in_schema=False, default_response_class=Response)


@dataclass(frozen=True)
class Parameter:
    """One thing that an operation takes in its path, its query or its headers."""

    name: str
    place: str
    is_required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    anchor: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    example: str | None
    """A body that the operation takes, as JSON."""
    answers: tuple[tuple[str, str], ...]
    """Status codes and what they mean."""


@router.get("/docs")
def docs_page(request: Request, pages: PagesDep) -> Response:
    """Show every operation of the REST API."""
    return pages.render(request, "api_docs.html", groups=operations(request.app.openapi()))


def operations(schema: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Return the operations of a schema by their first tag, in its order."""
    groups: dict[str, list[Operation]] = {}
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            group = next(iter(described.get("tags", ())), "other")
            groups.setdefault(group, []).append(_operation(schema, path, method, described))
    return groups


def _operation(schema: Mapping[str, Any], path: str, method: str, described: Mapping[str, Any]) -> Operation:
    return Operation(
        method=method.upper(),
        path=path,
        anchor=described.get("operationId", f"{method}-{path}"),
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        parameters=tuple(
            Parameter(one["name"], one["in"], one.get("required", False), one.get("description", ""))
            for one in described.get("parameters", ())
        ),
        example=_example(schema, described.get("requestBody", {})),
        answers=tuple((status, answer["description"]) for status, answer in described["responses"].items()),
    )


def _example(schema: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    for content in body.get("content", {}).values():
        for model in _models(schema, content.get("schema", {})):
            if model.get("examples"):
                return json.dumps(model["examples"][0], indent=2, ensure_ascii=False)
    return None


def _models(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and those it chooses from, references followed."""
    name = described.get("$ref", "").rpartition("/")[2]
    found = schema["components"]["schemas"][name] if name else described
    yield found
    for choice in (*found.get("oneOf", ()), *found.get("anyOf", ())):
        yield from _models(schema, choice)
