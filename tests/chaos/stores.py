"""Redis with its append-only file and PostgreSQL with its log: servers that die and come back with what they had."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.servers import POSTGRES_SUPERUSER, find_postgres, find_redis, free_port, unprivileged_user

_READY_SECONDS = 60.0


class Node:
    """One server process with its group, on a port that it keeps."""

    def __init__(self, directory: Path, command: list[str], *, port: int, user: str | None = None) -> None:
        self.directory = directory
        self.port = port
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; does not wait for it."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.directory,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
            )

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the server at once, as a machine that loses power does to it."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """Stop the server where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class RedisNode(Node):
    """Redis that writes every command to its append-only file before it answers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        port = free_port()
        command = [find_redis(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        super().__init__(directory, command, port=port)
        self.client = redis.Redis(port=port, socket_timeout=2, socket_connect_timeout=2)

    def lose_tail(self, count: int) -> None:
        """Cut the last bytes off the append-only file, as a machine that dies does to what it had not flushed."""
        logs = [path for path in self.directory.rglob("*.aof") if ".base." not in path.name and path.stat().st_size]
        for path in logs:
            os.truncate(path, max(0, path.stat().st_size - count))

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class PostgresNode(Node):
    """PostgreSQL that keeps what it committed when its processes are killed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        binaries, user, port = find_postgres(), unprivileged_user(), free_port()
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", POSTGRES_SUPERUSER, "--auth=trust", "--no-sync"]
        subprocess.run([*initdb, "--encoding=UTF8", "--locale=C"], check=True, capture_output=True, user=user, cwd="/")
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
        # A killed process loses nothing it has written, so fsync may rest; commits are written before the answer.
        command += ["-c", "fsync=off", "-c", "synchronous_commit=on", "-c", "max_connections=80"]
        super().__init__(directory, command, port=port, user=user)
        self.url = f"postgresql://{POSTGRES_SUPERUSER}@127.0.0.1:{port}/postgres"

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement. Raises psycopg.Error while the server is away."""
        options = "-c statement_timeout=5000"
        with psycopg.connect(self.url, connect_timeout=2, autocommit=True, options=options) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def end_sessions(self) -> None:
        """Break every connection, as an administrator or a failover does."""
        with suppress(psycopg.Error):
            self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return self.query("SELECT 1") == [(1,)]
        except psycopg.Error:
            return False


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = _READY_SECONDS) -> None:
    """Wait until a condition holds. Raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.05)
