"""Whether a worker is fit for a job: its disk, its memory, its device, its road to the hub; before each claim.

A worker that is not fit keeps the message it has and takes no other, so that jobs go to the workers that are; what it
says of itself is on the page of the workers and in the metrics.
"""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import structlog

from service.hub.settings import HubSettings
from service.platform.errors import StoreUnavailableError
from srr_core.errors import StorageError
from srr_core.recipe.byte_sizes import size_words
from worker.machine import available_memory_bytes
from worker.settings import WorkerSettings
from worker.workspace import Workspaces

_log = structlog.get_logger(__name__)

Check = Callable[[], str | None]
"""Returns what is wrong, as a sentence for the operator, or None."""
LOOK_AGAIN_SECONDS = 2.0
_CONNECT_SECONDS = 5.0
_PROBE_SECONDS = 180.0
"""The first use of a GPU by a cold driver takes tens of seconds."""


class Health:
    """The checks of one worker. Reports every change once."""

    def __init__(
        self,
        checks: Sequence[Check],
        *,
        tell: Callable[[str | None], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Build the health of a worker; `tell` is called with what is wrong now, and with None when nothing is."""
        self._checks = tuple(checks)
        self._tell = tell or _keep_to_itself
        self._sleep = sleep
        self._complaint: str | None = None

    def look(self) -> str | None:
        """Return the first thing that is wrong, or None."""
        complaint = next(filter(None, (check() for check in self._checks)), None)
        if complaint != self._complaint:
            self._announce(complaint)
        return complaint

    def _announce(self, complaint: str | None) -> None:
        if complaint is None:
            _log.info("worker_fit_again")
        else:
            _log.warning("worker_unfit", reason=complaint)
        try:
            self._tell(complaint)
        except StoreUnavailableError:
            return  # told at the next look
        self._complaint = complaint

    def wait_until_fit(self) -> None:
        """Return once nothing is wrong."""
        while self.look() is not None:
            self._sleep(LOOK_AGAIN_SECONDS)


class DeviceCheck:
    """Looks at the device in a process of its own, but only after a job's process has crashed: it takes seconds."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._is_suspected = False

    def suspect(self) -> None:
        """Have the device looked at before the next job."""
        self._is_suspected = True

    def __call__(self) -> str | None:
        """Return what is wrong with the device."""
        if not self._is_suspected:
            return None
        nowhere = subprocess.DEVNULL
        try:
            subprocess.run(
                self._command, stdin=nowhere, stdout=nowhere, stderr=nowhere, check=True, timeout=_PROBE_SECONDS
            )
        except (OSError, subprocess.SubprocessError):
            return "The device layers are computed on does not answer; look at its driver, or start the machine anew."
        self._is_suspected = False
        return None


def _keep_to_itself(_complaint: str | None) -> None:
    return


def machine_checks(settings: WorkerSettings, hubs: HubSettings, workspaces: Workspaces) -> tuple[Check, ...]:
    """Return the checks of what a worker can look at in a moment."""

    def disk() -> str | None:
        try:
            workspaces.require_usable()
        except StorageError as error:
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        return None

    def memory() -> str | None:
        available = available_memory_bytes()
        if available is None or available >= settings.memory_reserve_bytes:
            return None
        left = size_words(available)
        return f"{left} of memory are left, less than WORKER_MEMORY_RESERVE_BYTES; end what takes the rest."

    return (disk, memory, *_hub_checks(hubs))


def _hub_checks(hubs: HubSettings) -> tuple[Check, ...]:
    is_needed = "huggingface" in (hubs.source_hub, hubs.destination_hub)
    # Behind a proxy only the proxy can tell, and a worker that may also do with local models goes on without a hub.
    return (lambda: unreachable(hubs.endpoint),) if is_needed and not urllib.request.getproxies() else ()


def unreachable(endpoint: str) -> str | None:
    """Return the complaint that nobody listens at the address of a hub, or None when somebody does."""
    url = urlsplit(endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname, port), _CONNECT_SECONDS).close()
    except OSError:
        return f"The hub at {endpoint} cannot be reached from this machine; look at its network."
    return None
