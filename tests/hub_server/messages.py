"""A request and a response as values, so that the routes know nothing of sockets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, body read, token looked up."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    base_url: str
    user: str | None
    """Name of the token's owner; None without a token."""

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Response:
    """One answer. For HEAD the body is not sent but counts for Content-Length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HubHTTPError(Exception):
    """An answer that is an error, in the form the Hub gives it: headers first."""

    def __init__(self, status: int, error_code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if error_code:
            named["X-Error-Code"] = error_code
        self.response = as_json({"error": message}, status=status, **{**named, "X-Error-Message": message})


def as_json(value: Any, *, status: int = 200, **headers: str) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})
