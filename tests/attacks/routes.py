"""Every route of the application, from its own tables: a new one is attacked without anybody remembering to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute


@dataclass(frozen=True)
class Way:
    """One method of one path."""

    method: str
    path: str
    is_api: bool

    def of(self, ids: dict[str, str]) -> str:
        """Return the path with these ids; KeyError: it wants one that nobody has thought of."""
        return self.path.format_map(ids)

    def __str__(self) -> str:
        """Return both."""
        return f"{self.method} {self.path}"


def ways(application: FastAPI) -> Sequence[Way]:
    """Return every operation and page."""
    return [
        Way(method, route.path, route.include_in_schema)
        for route in _routes(application.router.routes)
        for method in sorted(route.methods - {"HEAD"})
    ]


def _routes(routes: Sequence[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
