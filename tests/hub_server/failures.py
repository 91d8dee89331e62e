"""The ways a hub and the road to it can fail, each as a value."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.hub_server.messages import HubHTTPError, Request, Response


@dataclass(frozen=True)
class Failure:
    """What goes wrong with one answer."""

    kind: Literal["answer", "disconnect_before", "disconnect_after", "truncate", "corrupt", "slow", "before", "after"]
    answer: Response | None = None
    seconds: float = 0.0
    action: Callable[[], object] | None = None

    @classmethod
    def status(
        cls, status: int, *, error_code: str = "", message: str = "Broken on request", **headers: str
    ) -> "Failure":
        """Answer with this status; nothing is done."""
        return cls("answer", answer=HubHTTPError(status, error_code, message, **headers).response)

    @classmethod
    def rate_limited(cls, *, seconds: int) -> "Failure":
        """Answer 429 the way the Hub does."""
        limit = {"RateLimit": f'"api";r=0;t={seconds}', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
        return cls.status(429, message="Too many requests", **limit)

    @classmethod
    def gated(cls) -> "Failure":
        """Answer as for a gated repository without access."""
        return cls.status(403, error_code="GatedRepo", message="Access to this model is restricted")

    @classmethod
    def disconnect(cls, *, after_handling: bool) -> "Failure":
        """Close the connection without an answer, before or after doing what was asked."""
        return cls("disconnect_after" if after_handling else "disconnect_before")

    @classmethod
    def truncated_body(cls) -> "Failure":
        """Announce the whole body, send half of it, close."""
        return cls("truncate")

    @classmethod
    def corrupted_body(cls) -> "Failure":
        """Send a body of the right length with one bit flipped."""
        return cls("corrupt")

    @classmethod
    def slow_body(cls, seconds: float) -> "Failure":
        """Send the first half of the body, wait, send the rest."""
        return cls("slow", seconds=seconds)

    @classmethod
    def first(cls, action: Callable[[], object]) -> "Failure":
        """Do something else first, such as moving the branch, then answer as usual."""
        return cls("before", action=action)

    @classmethod
    def then(cls, action: Callable[[], object]) -> "Failure":
        """Do what was asked, then something else, and answer only after that."""
        return cls("after", action=action)

    def apply(self, response: Response) -> Response:
        """Return the response with its body damaged, where that is the failure."""
        if self.kind == "corrupt" and response.body:
            return replace(response, body=bytes([response.body[0] ^ 1]) + response.body[1:])
        return response


@dataclass
class FailurePlan:
    """Which routes fail how, and how often; a row that is used up is gone."""

    rows: list[tuple[str, Failure, int, str]] = field(default_factory=list)

    def add(self, route: str, failure: Failure, *, times: int, path_contains: str) -> None:
        self.rows.append((route, failure, times, path_contains))

    def take(self, route: str, request: Request) -> Failure | None:
        for index, (name, failure, times, part) in enumerate(self.rows):
            if name == route and part in request.path:
                self.rows[index] = (name, failure, times - 1, part)
                self.rows = [row for row in self.rows if row[2] > 0]
                return failure
        return None
