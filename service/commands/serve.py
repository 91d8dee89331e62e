"""`srr api` and `srr serve`: the HTTP server, alone or with a worker beside it."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import HttpUrl

from service.app import create_app
from service.commands.occupancy import occupying
from service.commands.output import EXIT_BAD_INPUT, CommandError, status_console
from service.commands.patience import PatientProtocol
from service.commands.places import require_usable
from service.jobs.settings import JobsSettings
from service.platform.logging import configure_logging
from service.platform.tracing import configure_tracing
from service.settings import ServiceSettings

BringModel = Callable[[Path, str, Path], object]
"""Copies a model folder into a folder hub: the folder, the id, the root of the hub."""
LOOPBACK = "127.0.0.1"
WORKER_LOG = "worker.log"
_START_SECONDS = 30.0
LIFELINE = "SRR_LIFELINE"
"""As `worker.lifeline` reads it."""
_BACKLOG = 2048
_WORKER_ENDED = signal.SIGUSR1
"""Not that of Ctrl-C, which the background jobs of a script ignore."""
_STOP_SECONDS = 20.0
# Event streams stay open for hours; on shutdown they are cut and their clients reconnect.
_GRACE_SECONDS = 3


class _WorkerEndedError(Exception):
    """The worker beside the service ended by itself."""


def run_api(settings: ServiceSettings) -> None:
    """Serve the API and the pages until a signal."""
    require_private(settings.host, trusted=settings.trust_network or settings.sign_in != "none")
    configure_logging()
    listener = listen(settings.host, settings.port)
    # The server raises the signal that stopped it again at its end, and the last spans have to go out after that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _traced():
        _server(settings, JobsSettings()).run(sockets=[listener])


def run_embedded(*, port: int, data_dir: Path, hub: Path, bring: BringModel) -> None:
    """Serve on loopback with a worker and a folder hub until Ctrl-C."""
    configure_logging(level="WARNING")
    with (
        _traced(),
        embedded_service(
            port=port, data_dir=data_dir, bring_model=lambda folder, repo_id: bring(folder, repo_id, hub)
        ) as url,
    ):
        console = status_console()
        console.print(f"{url} is ready; Ctrl-C stops it. Everything is kept in {data_dir}.")
        console.print(f"Models come from the Hub, or from {hub}: srr hub add FOLDER ORG/NAME --data-dir {data_dir}")
        signal.pause()


@contextmanager
def embedded_service(
    *, port: int, data_dir: Path, bring_model: Callable[[Path, str], object] | None = None
) -> Iterator[str]:
    """Run the service on loopback in a thread and a worker in a process; yield the address.

    Call it in the main thread: a signal, or the end of the worker, unwinds the body. A terminal that is closed is a
    signal too, and a worker never outlives this process.

    Raises:
        CommandError: the data directory or the port is taken, the server does not start, or the worker ends.
    """
    require_usable(data_dir)
    data_dir = data_dir.resolve()
    with occupying(data_dir) as note_address:
        listener = listen(LOOPBACK, port)
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        note_address(url)
        server = _server(embedded_settings(url), JobsSettings(data_dir=data_dir), bring_model)
        with _running(server, listener, data_dir):
            yield url


@contextmanager
def _running(server: uvicorn.Server, listener: socket.socket, data_dir: Path) -> Iterator[None]:
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True)
    thread.start()
    with _signals_unwind():
        worker = WorkerProcess(data_dir)
        try:
            _wait_for(server, thread)
            yield
        except _WorkerEndedError:
            raise CommandError(f"the worker ended by itself; {data_dir / WORKER_LOG} says why") from None
        finally:
            worker.stop()
            server.should_exit = True
            thread.join(_STOP_SECONDS)


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let signals unwind the main thread: a request to end unless it is ignored (`nohup`), and the worker's end."""
    before = {number: _leave_on(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[_WORKER_ENDED] = signal.signal(_WORKER_ENDED, _raise_worker_ended)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_on(number: signal.Signals) -> Any:
    before = signal.getsignal(number)
    return before if before is signal.SIG_IGN else signal.signal(number, lambda *_: sys.exit(128 + number))


def _raise_worker_ended(*_: object) -> None:
    raise _WorkerEndedError


def embedded_settings(url: str) -> ServiceSettings:
    """Return the settings of a service that listens at an address; links in messages lead there by default."""
    settings = ServiceSettings(host=LOOPBACK)
    is_chosen = "public_url" in settings.model_fields_set
    return settings if is_chosen else settings.model_copy(update={"public_url": HttpUrl(url)})


class WorkerProcess:
    """A worker beside the service. When it ends by itself, the main thread gets a signal."""

    def __init__(self, data_dir: Path) -> None:
        self._is_stopping = False
        # A session of its own: Ctrl-C in the terminal reaches us, and we stop the worker in order.
        with (data_dir / WORKER_LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "worker"],
                env={**os.environ, "SERVICE_DATA_DIR": str(data_dir), LIFELINE: "stdin"},
                stdin=subprocess.PIPE,  # nothing is ever written: it closes when we are gone, even by SIGKILL
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        threading.Thread(target=self._watch, name="worker-watch", daemon=True).start()

    def stop(self) -> None:
        """End the worker in order, and by force if that takes too long."""
        self._is_stopping = True
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _watch(self) -> None:
        self._process.wait()
        main_thread = threading.main_thread().ident
        if not self._is_stopping and main_thread is not None:
            # A real signal, because only that wakes a thread that waits for the network.
            signal.pthread_kill(main_thread, _WORKER_ENDED)


def require_private(host: str, *, trusted: bool) -> None:
    """Refuse to listen beyond this machine while nobody signs in.

    Raises:
        CommandError: the host is not a loopback address.
    """
    if trusted or is_loopback(host):
        return
    raise CommandError(
        f"refusing to listen on {host}: nobody signs in, so everybody who reaches it could publish with its tokens. "
        "Listen on 127.0.0.1, or let people sign in (SERVICE_SIGN_IN), or set SERVICE_TRUST_NETWORK=true behind a "
        "proxy that does.",
        exit_code=EXIT_BAD_INPUT,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one. Whoever connects before the server runs waits for it.

    Raises:
        CommandError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only on sockets that say they are TCP;
    # with it, every answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two sockets may bind one port as long as neither listens, so it is here that a taken one shows.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}", exit_code=EXIT_BAD_INPUT) from error
    return listener


@contextmanager
def _traced() -> Iterator[None]:
    try:
        tracing = configure_tracing("srr-api")
    except LookupError as error:
        raise CommandError(str(error), exit_code=EXIT_BAD_INPUT) from error
    try:
        yield
    finally:
        if tracing is not None:
            tracing.shutdown()


def _server(
    settings: ServiceSettings,
    jobs_settings: JobsSettings,
    bring_model: Callable[[Path, str], object] | None = None,
) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(settings, jobs_settings, bring_model=bring_model),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
        http=PatientProtocol,
    )
    return uvicorn.Server(config)


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise CommandError("the service did not start; its log says why")
        time.sleep(0.02)
