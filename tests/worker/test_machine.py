"""What a worker says of its machine."""

import json
import sys
import time
from pathlib import Path

import pytest

from service.jobs.opening import open_jobs
from service.jobs.settings import JobsSettings
from service.jobs.workers import Worker, WorkerRegistry
from tests.service.jobs.conftest import Clock
from worker.duties import WorkerDuties
from worker.health import Health
from worker.machine import Device, DeviceProbe, available_memory_bytes, host_memory_bytes, scratch_bytes
from worker.probe import measure
from worker.workspace import Workspaces

FOUND = Device(device="NVIDIA H100", device_memory_bytes=80, operations_per_second=1e12)
SECONDS = 10.0


def result(probe: DeviceProbe) -> Device | None:
    """Wait for the process of a probe and return what it found."""
    probe.start()
    assert probe._process is not None
    probe._process.wait(SECONDS)
    return probe.result()


def saying(text: str) -> DeviceProbe:
    """Return a probe whose process prints a text."""
    return DeviceProbe((sys.executable, "-c", f"print({text!r})"))


def test_what_the_process_found_is_told_once() -> None:
    probe = saying(FOUND.model_dump_json())

    assert result(probe) == FOUND
    assert probe.result() is None


def test_a_process_that_finds_nothing_leaves_the_device_unknown() -> None:
    assert result(saying("no CUDA")) is None


def test_a_process_that_takes_long_is_not_waited_for_and_ends_with_the_worker() -> None:
    probe = DeviceProbe((sys.executable, "-c", "import time; time.sleep(60)"))
    probe.start()

    began = time.monotonic()
    assert probe.result() is None
    probe.stop()

    assert time.monotonic() - began < SECONDS


def test_the_device_of_this_machine_is_measured() -> None:
    device = measure("cpu")

    assert (device.device, device.device_memory_bytes) == ("cpu", None)
    assert device.operations_per_second > 1e6


@pytest.mark.parametrize(("limit", "is_limited"), [("max\n", False), ("1000000\n", True)])
def test_a_container_has_the_memory_it_may_use(tmp_path: Path, limit: str, is_limited: bool) -> None:
    (tmp_path / "memory.max").write_text(limit)

    assert (host_memory_bytes(tmp_path / "memory.max") == 1_000_000) is is_limited
    assert host_memory_bytes(tmp_path / "none") > 1_000_000


@pytest.mark.parametrize(
    ("limit", "used", "left"), [("max", "5", 4_096_000), ("1000", "400", 600), (None, None, 4_096_000)]
)
def test_memory_that_is_left_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, limit: str | None, used: str | None, left: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:   4000 kB\n")
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")

    assert available_memory_bytes(tmp_path / "meminfo", tmp_path) == left
    assert available_memory_bytes(tmp_path / "none", tmp_path) is None


def test_the_scratch_disk_is_what_is_free_beside_the_reserve_up_to_the_budget(tmp_path: Path) -> None:
    assert scratch_bytes(tmp_path / "new", reserve_bytes=0, budget_bytes=5) == 5
    assert scratch_bytes(tmp_path, reserve_bytes=2**62, budget_bytes=5) == 0


def test_a_worker_registers_its_device_as_soon_as_it_is_found(tmp_path: Path, clock: Clock) -> None:
    worker = Worker(name="w1", host="h", device="auto", version="1", started_at=clock.now, seen_at=clock.now)
    with open_jobs(JobsSettings(data_dir=tmp_path)) as jobs:
        probe = saying(json.dumps(FOUND.model_dump()))
        duties = WorkerDuties(jobs, Workspaces(tmp_path / "scratch", reserve_bytes=0), worker, probe, Health(()))
        probe.start()
        duties._beat()
        assert probe._process is None or probe._process.wait(SECONDS) == 0
        duties._beat()

        (listed,) = WorkerRegistry(jobs.engine).list()

    assert (listed.device, listed.memory_bytes, listed.operations_per_second) == ("NVIDIA H100", 80, 1e12)


@pytest.fixture
def clock() -> Clock:
    return Clock()
