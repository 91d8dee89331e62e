"""One service at one address: how a call is sent, and what an answer or its absence becomes."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from service.client.errors import ApiError, UnreachableError
from service.edge.problem import Problem

DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_SECONDS = 30.0
# The server sends a ping every 15 seconds; a stream that is silent for longer is dead.
_STREAM_TIMEOUT_SECONDS = 45.0
T = TypeVar("T", bound=BaseModel)


class Connection:
    """One service at one address. Safe to share between threads; close it, or use it as a context manager."""

    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, transport: httpx2.BaseTransport | None = None
    ) -> None:
        """Remember the address; nothing is sent yet.

        Args:
            url: Where the service is, without `/v1`.
            api_key: Sent as a bearer token; not needed by a service on loopback.
            transport: For tests that run the application in this process.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx2.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT_SECONDS, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, model: type[T], method: str, path: str, **arguments: Any) -> T:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        self._check(response)
        try:
            return model.model_validate_json(response.content or b"{}", extra="ignore")
        except ValidationError as error:
            raise self._misunderstood() from error

    def _check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        try:
            raise ApiError(Problem.model_validate_json(response.content, extra="ignore"))
        except ValidationError as error:
            raise UnreachableError(f"{self._http.base_url} answered {response.status_code}") from error

    def _stream(self, path: str, after: int) -> Iterator[tuple[str, str]]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT_SECONDS) as response:
            if not response.is_success:
                response.read()
                self._check(response)
            name, data = "message", ""
            for line in response.iter_lines():
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.strip()
                elif field == "data":
                    data = value.strip()
                elif not line and data:
                    yield name, data
                    name, data = "message", ""

    def _misunderstood(self) -> UnreachableError:
        return UnreachableError(f"{self._http.base_url} answers, but not as this version of the service")

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"no service answers at {self._http.base_url} ({type(error).__name__}); start one with `srr serve`"
        )
