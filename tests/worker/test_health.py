"""What a worker finds wrong with itself, and what it does about it."""

import socket
import sys
from pathlib import Path

import pytest

from service.hub.settings import HubSettings
from service.platform.errors import StoreUnavailableError
from worker.health import DeviceCheck, Health, machine_checks, unreachable
from worker.settings import WorkerSettings
from worker.workspace import Workspaces


class Sick:
    """A check that complains until it is cured."""

    complaint: str | None = "The disk is full."

    def __call__(self) -> str | None:
        return self.complaint


def test_a_sick_worker_waits_until_it_is_cured() -> None:
    sick = Sick()
    pauses: list[float] = []

    def cure(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            sick.complaint = None

    Health((sick,), sleep=cure).wait_until_fit()

    assert len(pauses) == 3


def test_every_change_is_told_once() -> None:
    sick, told = Sick(), list[str | None]()
    health = Health((sick,), tell=told.append)

    health.look()
    health.look()
    sick.complaint = None
    health.look()

    assert told == ["The disk is full.", None]


def test_what_the_database_did_not_take_is_told_again() -> None:
    told = list[str | None]()
    is_away = [True]

    def tell(complaint: str | None) -> None:
        if is_away[0]:
            raise StoreUnavailableError("away")
        told.append(complaint)

    health = Health((Sick(),), tell=tell)
    assert health.look() == "The disk is full."
    is_away.clear()
    is_away.append(False)
    health.look()

    assert told == ["The disk is full."]


def complaints(tmp_path: Path, *, reserve_bytes: int = 0, **settings: int) -> list[str]:
    workspaces = Workspaces(tmp_path / "scratch", reserve_bytes=reserve_bytes)
    checks = machine_checks(WorkerSettings(**settings), HubSettings(source_hub="folder"), workspaces)  # type: ignore[arg-type]
    return [complaint for check in checks if (complaint := check()) is not None]


def test_a_healthy_machine_has_no_complaint(tmp_path: Path) -> None:
    assert complaints(tmp_path, memory_reserve_bytes=0) == []


def test_a_full_disk_is_a_complaint(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, reserve_bytes=1 << 60, memory_reserve_bytes=0)

    assert complaint.startswith("The worker has ")
    assert "WORKER_SCRATCH_DIR" in complaint


def test_a_scratch_directory_that_cannot_be_written_is_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")

    (complaint,) = complaints(tmp_path, memory_reserve_bytes=0)

    assert "cannot be written" in complaint


def test_too_little_memory_is_a_complaint(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, memory_reserve_bytes=1 << 60)

    assert "WORKER_MEMORY_RESERVE_BYTES" in complaint


def test_a_hub_that_nobody_reaches_is_a_complaint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert unreachable(endpoint) is None

    assert endpoint in str(unreachable(endpoint))


@pytest.mark.parametrize(("status", "is_sick"), [(1, True), (0, False)])
def test_a_device_is_looked_at_after_a_crash_only(status: int, is_sick: bool) -> None:
    check = DeviceCheck((sys.executable, "-c", f"raise SystemExit({status})"))
    assert check() is None

    check.suspect()

    assert (check() is not None) is is_sick
    assert (check() is not None) is is_sick  # a sick one is looked at until it is well
