"""The application behind the real server, in a thread of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from service.commands.serve import LOOPBACK, listen


def address_of(listener: socket.socket) -> str:
    """Return the address whoever listens there is reached at."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


@contextmanager
def served(application: FastAPI, listener: socket.socket | None = None) -> Iterator[str]:
    """Serve an application, on a free port unless told where, and yield its address."""
    listener = listener or listen(LOOPBACK, 0)
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()
