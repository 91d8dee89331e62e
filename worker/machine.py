"""What this machine offers to jobs: its memory, its scratch disk, and the device they compute on."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Holds `max` or the memory a container may use. Source: Linux, cgroup v2."""
_MEMINFO = Path("/proc/meminfo")
_log = structlog.get_logger(__name__)


class Device(BaseModel):
    """The device layers are computed on, as `worker.probe` found it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    device_memory_bytes: int | None
    operations_per_second: float


class DeviceProbe:
    """Asks for the device in a process of its own, because only that one needs torch. Never waits for it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def result(self) -> Device | None:
        """Return what was found, once; None before and after that, and where nothing could be found."""
        if self._process is None or self._process.poll() is None:
            return None
        said, _ = self._process.communicate()
        status, self._process = self._process.returncode, None
        try:
            return Device.model_validate_json(said)
        except ValidationError:
            _log.warning("device_not_found", status=status)
            return None

    def stop(self) -> None:
        """End the process if it is still at work."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def host_memory_bytes(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return the memory processes of this machine, or of this container, may use together."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = cgroup_limit.read_text(encoding="ascii").strip()
    except OSError:
        return installed
    return min(installed, int(limit)) if limit.isdigit() else installed


def available_memory_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP_LIMIT.parent) -> int | None:
    """Return the memory a new process could have without anything else being moved to disk; None if nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = ((cgroup / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return min(available, int(limit) - int(used)) if limit.isdigit() else available
    except (OSError, ValueError):
        return available


def group_memory_bytes(group: int, processes: Path = Path("/proc")) -> int:
    """Return the memory of a process group that is its own: what it has mapped from files is not counted."""
    return sum(_anonymous_bytes(entry) for entry in processes.glob("[0-9]*") if _group_of(entry) == group)


def _group_of(process: Path) -> int | None:
    try:
        # The name, in parentheses, may hold anything; the fields behind it are state, parent and group.
        return int((process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[2])
    except (OSError, ValueError, IndexError):
        return None  # it ended while we looked


def _anonymous_bytes(process: Path) -> int:
    try:
        lines = dict(line.split(":", 1) for line in (process / "status").read_text(encoding="utf-8").splitlines())
        return int(lines["RssAnon"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def scratch_bytes(root: Path, *, reserve_bytes: int, budget_bytes: int) -> int:
    """Return the disk one job may use, as it is free now; makes the directory."""
    root.mkdir(parents=True, exist_ok=True)
    return max(0, min(shutil.disk_usage(root).free - reserve_bytes, budget_bytes))
