"""What every test may ask for, and the environment all of them run in: no network, no tokens, no telemetry."""

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY")
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
_LOOPBACK = ("127.", "::1", "localhost", "::ffff:127.", "0.0.0.0")  # compared with, not bound
_HUB_HOME = tempfile.TemporaryDirectory(prefix="srr-hub-home-")
_CLOSED_PORT = "http://127.0.0.1:9"


def _clean_environment() -> None:
    # huggingface_hub reads its variables once, at import; this runs before any test module is imported.
    for name in list(os.environ):
        if name.upper() in _PROXIES or name in _SECRETS or name.startswith(("SERVICE_", "WORKER_")):
            del os.environ[name]
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HOME=_HUB_HOME.name,
        HF_ENDPOINT=_CLOSED_PORT,
        DO_NOT_TRACK="1",
        NO_PROXY="*",
        no_proxy="*",
        TOKENIZERS_PARALLELISM="false",
    )
    # One thread per process: small tensors gain nothing from more, and runs of several workers stay honest.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
        raise RuntimeError(f"a test tried to reach {address[0]}:{address[1]}; tests stay on this machine")


_clean_environment()
sys.addaudithook(_refuse_network)
# Unconfigured, structlog prints to standard output, which is what commands are judged by.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

from tests.servers import ServerMissingError, postgres_server, redis_server  # noqa: E402  # after the environment

pytest_plugins = ["tests.hub_server.fixtures"]


def _missing(error: ServerMissingError) -> NoReturn:
    """Skip on a laptop, fail in CI: a green CI run has tried everything."""
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))


def pytest_unconfigure() -> None:
    """Remove the Hub client's home."""
    _HUB_HOME.cleanup()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a real Redis server, empty at the start of the session."""
    try:
        with redis_server() as url:
            yield url
    except ServerMissingError as error:
        _missing(error)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The maintenance database of a real PostgreSQL server; most tests want `postgres_url`."""
    try:
        with postgres_server() as url:
            yield url
    except ServerMissingError as error:
        _missing(error)


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An SQLAlchemy URL of a new, empty PostgreSQL database, dropped after the test."""
    import psycopg

    server = postgres_server_url.removesuffix("/postgres").replace("postgresql://", "postgresql+psycopg://")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"{server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def tiny_llama() -> Path:
    """The bundled demo model: a real Llama of 6.5 M parameters. Read only."""
    from examples import DEMO_MODEL

    return DEMO_MODEL


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> "Iterator[InMemorySpanExporter]":
    """The spans this process has finished during the test."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()
