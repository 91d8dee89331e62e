"""The whole service as one command: submitted over REST, compressed by its worker, and stopped in order."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import DEMO_MODEL
from service.client import Client
from service.commands.serve import LOOPBACK, listen
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.slow
TINY = {"num_sequences": 4, "sequence_length": 64}
_START_SECONDS = 60.0


def wait_for(condition: object, seconds: float = _START_SECONDS) -> None:
    """Wait until a call returns something true."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """`srr serve` on a free port, with the demo model in its hub; its parameter is what SIGINT does to it at first."""
    of_ctrl_c = getattr(request, "param", signal.SIG_DFL)
    with listen(LOOPBACK, 0) as free:
        port = free.getsockname()[1]
    data_dir = tmp_path / "data"
    FolderHub(data_dir / "hub").import_model(DEMO_MODEL, "demo/tiny-llama")
    # Whatever these tests themselves run under: the background jobs of a script ignore the signal.
    before = signal.signal(signal.SIGINT, of_ctrl_c)
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", str(port), "--data-dir", str(data_dir)],
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, before)
    url = f"http://{LOOPBACK}:{port}"
    wait_for(lambda: _answers(url))
    yield process, url, data_dir
    process.kill()
    process.wait()


def _answers(url: str) -> bool:
    with Client(url) as client:
        try:
            return bool(client.recipes())
        except Exception:  # noqa: BLE001  # it is not there yet, in whatever way
            return False


def _workers(data_dir: Path) -> list[int]:
    """Return the processes that work in a data directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SERVICE_DATA_DIR={data_dir}".encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue  # it ended while we looked
    return found


def test_a_job_goes_through_and_ctrl_c_leaves_nothing_behind(
    service: tuple[subprocess.Popen[bytes], str, Path],
) -> None:
    process, url, data_dir = service
    with Client(url) as client:
        job = client.submit(
            "demo/tiny-llama", destination="demo/out", recipe="weight-only", calibration=TINY, evaluation=TINY
        )
        done = client.wait(job.id)
        report = client.report(job.id)

    artifact = FolderHub(data_dir / "hub").existing("demo/out").snapshot(done.result.commit_sha)  # type: ignore[union-attr]
    assert json.loads((artifact / "report.json").read_text())["recipe"]["name"] == "weight-only"
    assert report.source.id == "demo/tiny-llama"

    assert _workers(data_dir)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    wait_for(lambda: not _workers(data_dir), 30)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_no_worker_outlives_a_command_that_is_killed_or_loses_its_terminal(
    service: tuple[subprocess.Popen[bytes], str, Path], number: signal.Signals
) -> None:
    process, _, data_dir = service
    wait_for(lambda: len(_workers(data_dir)) > 1)  # the worker and its pool

    process.send_signal(number)
    process.wait(60)

    wait_for(lambda: not _workers(data_dir), 60)


def test_a_second_command_on_the_same_directory_is_refused_and_told_of_the_first(
    service: tuple[subprocess.Popen[bytes], str, Path],
) -> None:
    process, url, data_dir = service

    second = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 2
    assert url in second.stderr.replace("\n", "")
    assert f"process {process.pid}" in " ".join(second.stderr.split())
    assert process.poll() is None


@pytest.mark.parametrize("service", [signal.SIG_DFL, signal.SIG_IGN], ids=["terminal", "script"], indirect=True)
def test_a_worker_that_dies_takes_the_command_with_it(service: tuple[subprocess.Popen[bytes], str, Path]) -> None:
    process, _, data_dir = service
    wait_for(lambda: _workers(data_dir))

    for worker in _workers(data_dir):
        os.kill(worker, signal.SIGKILL)

    assert process.wait(60) == 1
