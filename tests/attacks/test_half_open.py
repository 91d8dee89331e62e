"""Connections that send no complete request are closed; whole requests, however slow their answers, are not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.commands.patience import PATIENCE_SECONDS, PatientProtocol
from service.commands.serve import LOOPBACK, _server, listen
from service.jobs.settings import JobsSettings
from service.settings import ServiceSettings

SHORT = 0.3
"""In place of the 20 s of the service, which nobody should wait for here."""
GIVE_UP = 30.0


class _Hasty(PatientProtocol):
    patience_seconds = SHORT


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, take longer than a client may, and answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(3 * SHORT)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where a server listens whose patience is short."""
    listener = listen(LOOPBACK, 0)
    config = uvicorn.Config(_application, http=_Hasty, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(GIVE_UP)


def _after(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return everything until the server closes the connection; TimeoutError: it does not."""
    received = b""
    with closing(socket.create_connection((LOOPBACK, port), GIVE_UP)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        while chunk := connection.recv(4096):
            received += chunk
    return received


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"GET / HT",),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-Slow: "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", b"123"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\n123"),
    ],
    ids=["nothing", "half a line", "half a header", "half a body", "half a chunk"],
)
def test_half_a_request_is_closed_without_an_answer(port: int, pieces: tuple[bytes, ...]) -> None:
    assert _after(port, *pieces) == b""


def test_half_a_request_behind_a_whole_one_is_closed_after_its_answer(port: int) -> None:
    received = b""
    with closing(socket.create_connection((LOOPBACK, port), GIVE_UP)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not received.endswith(b"ok"):
            received += connection.recv(4096)
        connection.sendall(b"GET / HT")
        rest = connection.recv(4096)

    assert received.startswith(b"HTTP/1.1 200")
    assert rest == b""


def test_a_whole_request_is_answered_however_long_that_takes(port: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"

    assert _after(port, request, b"ab").endswith(b"ok")


def test_a_body_that_moves_has_no_end(port: int) -> None:
    with closing(socket.create_connection((LOOPBACK, port), GIVE_UP)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\n")
        began = time.monotonic()
        for _ in range(6):
            time.sleep(SHORT / 3)  # what is tried here is a client that is slow
            connection.sendall(b"a")
        took, received = time.monotonic() - began, b""
        while chunk := connection.recv(4096):
            received += chunk

    assert took > SHORT
    assert received.endswith(b"ok")


def test_the_service_listens_so(tmp_path: Path) -> None:
    config = _server(ServiceSettings(), JobsSettings(data_dir=tmp_path)).config

    assert config.http is PatientProtocol
    assert PatientProtocol.patience_seconds == PATIENCE_SECONDS == 20
