"""Connections that send no complete request: closed after a while, so that nobody keeps them all by sending nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_SECONDS = 20.0
"""How long the head of a request may take, and how long its body may stand still."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose clients have to finish a head in time and keep a body moving.

    The server itself waits for ever for the first byte, for the end of a head and for the rest of a body; between two
    requests it has a limit of its own. A body that the application does not read yet waits for us, not for the client.
    """

    patience_seconds = PATIENCE_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio calls it with one
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes: a head that goes on keeps its deadline, a body gets a new one, a whole request has none."""
        super().data_received(data)
        if self._awaits_body():
            self._forget()
            self._wait()
        elif self._awaits_head():
            self._wait()
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget()
        super().connection_lost(exc)

    def _awaits_head(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        return cycle is None or cycle.response_complete

    def _awaits_body(self) -> bool:
        return not self._awaits_head() and self.cycle.more_body

    def _wait(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.patience_seconds, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._awaits_body() and self.flow.read_paused:
            self._wait()
        elif self._awaits_head() or self._awaits_body():
            self.transport.close()
