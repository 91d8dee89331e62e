"""A whole installation on this machine: PostgreSQL, Redis and one API process, for the benchmarks of the service."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psycopg

from service.jobs.opening import Jobs, open_jobs
from service.jobs.settings import JobsSettings
from tests.servers import free_port, postgres_server, redis_server

START_SECONDS = 60.0
DATABASE = "benchmark"


@dataclass(frozen=True)
class Installation:
    """What a benchmark talks to: the address, the process behind it, and the job domain beside it."""

    url: str
    api: subprocess.Popen[bytes]
    jobs: Jobs


@contextmanager
def installation() -> Iterator[Installation]:
    """Start everything on free loopback ports; nothing is kept."""
    with postgres_server() as admin, redis_server() as broker, tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        server = admin.removesuffix("/postgres").replace("postgresql://", "postgresql+psycopg://")
        environment = {
            "SERVICE_DATA_DIR": folder,
            "SERVICE_DATABASE_URL": f"{server}/{DATABASE}",
            "SERVICE_BROKER_URL": broker,
            "SERVICE_PORT": str(free_port()),
        }
        os.environ.update(environment)
        with open_jobs(JobsSettings()) as jobs, _api(environment["SERVICE_PORT"], Path(folder)) as (url, api):
            yield Installation(url, api, jobs)


@contextmanager
def _api(port: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    url = f"http://127.0.0.1:{port}"
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "service.cli", "api"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API did not start: {(folder / 'api.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield url, process
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
