"""The commands of the images, run here against real servers: they come up, and their own health checks say so."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker.files import DOCKER, default_command, health_command
from tests.servers import free_port

PORT_IN_THE_IMAGE = "8000"
START_SECONDS = 60.0


@pytest.fixture
def environment(tmp_path: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SERVICE_DATA_DIR": str(tmp_path / "data"),
        "SERVICE_DATABASE_URL": postgres_url,
        "SERVICE_BROKER_URL": redis_url,
        "SERVICE_PORT": str(free_port()),
        "WORKER_SCRATCH_DIR": str(tmp_path / "scratch"),
    }


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_healthy(dockerfile: Path, environment: dict[str, str]) -> bool:
    command = [part.replace(PORT_IN_THE_IMAGE, environment["SERVICE_PORT"]) for part in health_command(dockerfile)]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_command_of_an_image_becomes_healthy(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    dockerfile = DOCKER / f"{name}.Dockerfile"
    log = tmp_path / "log"
    assert not _is_healthy(dockerfile, environment)

    with _running(default_command(dockerfile), environment, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while not (healthy := _is_healthy(dockerfile, environment)) and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()

    assert healthy, log.read_text()
