"""A whole installation on this machine: two APIs, two workers, Redis, PostgreSQL, a Hub, and roads between them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.chaos.clock import Clock, build_library
from tests.chaos.network import Network
from tests.chaos.processes import RUN_VARIABLE, Service, kill_together, processes_of
from tests.chaos.scratch_disk import ScratchDisk
from tests.chaos.stores import PostgresNode, RedisNode, wait_until
from tests.hub_server import HubServer, User
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside")
QUEUE = "srr-jobs"
KEY_PREFIX = "chaos:"
HUB_USER = "chaos"
LEASE_SECONDS = 6.0
"""A tenth of the default; the other times follow it down."""
TIMES: Mapping[str, str] = {
    "SERVICE_LEASE_SECONDS": str(LEASE_SECONDS),
    "SERVICE_HEARTBEAT_SECONDS": "1.2",
    "SERVICE_MAINTENANCE_SECONDS": "0.5",
    "SERVICE_LOST_MESSAGE_SECONDS": "6",
    "SERVICE_RETRY_FIRST_SECONDS": "0.5",
    "WORKER_GRACE_SECONDS": "3",
    "WORKER_SHUTDOWN_SECONDS": "0.5",
}
SERVERS = ("postgres", "redis", "hub")


class Installation:
    """Everything, in one directory. A context manager; whatever still runs at the end is killed."""

    def __init__(
        self, directory: Path, *, workers: int = 2, apis: int = 2, more: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.run = uuid.uuid4().hex
        self.token = f"hf_Chaos{self.run[:16]}"
        self.journal = directory / "layers.journal"
        self.data_dir = directory / "data"
        self.data_dir.mkdir(parents=True)
        self.network = Network()
        self.hub = HubServer()
        self.redis = RedisNode(directory / "redis")
        # Apart from the rest: its server runs as another user, who may not enter every directory.
        self._postgres_directory = Path(tempfile.mkdtemp(prefix="srr-chaos-postgres-"))
        self._postgres_directory.chmod(0o755)
        self.postgres = PostgresNode(self._postgres_directory / "server")
        # Apart as well: a mount outlives a run that is killed, and would keep others from deleting the rest.
        self._scratch_directory = Path(tempfile.mkdtemp(prefix="srr-chaos-scratch-"))
        self.disk = ScratchDisk(self._scratch_directory / "disk")
        self._clock_library = build_library(directory)
        self._more = dict(more or {})
        self._ports: dict[str, int] = {}
        self.clocks: dict[str, Clock] = {}
        self.workers = [self._service(f"worker{index}", ("worker",)) for index in range(1, workers + 1)]
        self.apis = [self._api(f"api{index}") for index in range(1, apis + 1)]

    @property
    def services(self) -> list[Service]:
        """Every process of the product that is kept running."""
        return [*self.workers, *self.apis]

    @property
    def has_clocks(self) -> bool:
        """Whether clocks of single processes can be moved on this machine."""
        return self._clock_library is not None

    @property
    def urls(self) -> list[str]:
        """The addresses of the API replicas."""
        return [f"http://127.0.0.1:{port}" for port in self._ports.values()]

    def service(self, name: str) -> Service:
        """Return a worker or an API by its name."""
        return next(service for service in self.services if service.name == name)

    def start(self) -> None:
        """Start the servers, then the product, and wait until both answer."""
        self.hub.__enter__()
        self.hub.state.users[self.token] = User(HUB_USER)
        self.redis.start()
        self.postgres.start()
        wait_until(self.redis.answers, "Redis answered")
        wait_until(self.postgres.answers, "PostgreSQL answered")
        for service in self.services:
            service.start()

    def close(self) -> None:
        """Kill what still runs and give everything back."""
        kill_together(processes_of(self.run))
        for service in self.services:
            with suppress(subprocess.TimeoutExpired):
                service.wait(10)
        for node in (self.redis, self.postgres):
            node.kill()
        self.redis.client.close()
        self.network.close()
        self.hub.__exit__(None, None, None)
        self.disk.close()
        remove(self._postgres_directory)
        remove(self._scratch_directory)

    def stop_services(self, *, seconds: float = 30) -> list[str]:
        """Ask every process of the product to end, and return the names of those that do not."""
        for service in self.services:
            for process in service.main():
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        late = []
        for service in self.services:
            try:
                service.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(service.name)
        return late

    def heal(self) -> None:
        """Undo every lasting fault: start what is down, thaw what is frozen, open every road."""
        for name in self.network.roads:
            self.network.heal(name)
        for clock in self.clocks.values():
            clock.set(0)
        self.disk.free()
        for node in (self.redis, self.postgres):
            node.thaw()
            if not node.is_running:
                node.start()
        for process in processes_of(self.run):
            process.send_signal(signal.SIGCONT)
        for service in self.services:
            service.start()

    def logs(self) -> dict[str, str]:
        """Return what each process of the product has written."""
        return {
            service.name: service.log.read_text(errors="replace") for service in self.services if service.log.exists()
        }

    def _api(self, name: str) -> Service:
        self._ports[name] = free_port()
        return self._service(name, ("api",), SERVICE_PORT=str(self._ports[name]))

    def _service(self, name: str, arguments: tuple[str, ...], **more: str) -> Service:
        hub_port = urlsplit(self.hub.url).port or 0
        targets = {"postgres": self.postgres.port, "redis": self.redis.port, "hub": hub_port}
        ports = {server: self.network.road(f"{name}-{server}", port).port for server, port in targets.items()}
        hub = f"http://127.0.0.1:{ports['hub']}"
        clock = self.clocks[name] = Clock(self.directory / f"{name}.clock")
        environment = {
            **_inherited(),
            **TIMES,
            RUN_VARIABLE: self.run,
            "SRR_CHAOS_JOURNAL": str(self.journal),
            "SRR_CHAOS_CLOCK": str(clock.file),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(INSIDE))),
            "SERVICE_DATA_DIR": str(self.data_dir),
            "SERVICE_DATABASE_URL": f"postgresql+psycopg://postgres@127.0.0.1:{ports['postgres']}/postgres",
            "SERVICE_BROKER_URL": f"redis://127.0.0.1:{ports['redis']}/0",
            "SERVICE_KEY_PREFIX": KEY_PREFIX,
            "SERVICE_QUEUE_NAME": QUEUE,
            "SERVICE_FORM_SECRET": self.run,
            "SERVICE_SOURCE_HUB": "huggingface",
            "SERVICE_DESTINATION_HUB": "huggingface",
            "SERVICE_HUB_URL": hub,
            "WORKER_SCRATCH_DIR": str(self.disk.directory),
            "WORKER_DISK_RESERVE_BYTES": str(self.disk.reserve_bytes),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.directory / "hub-home"),
            **self._more,
            **more,
        }
        if self._clock_library is not None:
            environment["LD_PRELOAD"] = str(self._clock_library)
        command = (sys.executable, "-m", "service.cli", *arguments)
        return Service(name, command, environment, self.directory / f"{name}.log")


def _inherited() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SERVICE_", "WORKER_", "SRR_"))}
    # One thread a process: several jobs share two cores here.
    return {**kept, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", "no_proxy": "*", "DO_NOT_TRACK": "1"}


def remove(directory: Path) -> None:
    """Delete the directory of an installation that is closed."""
    shutil.rmtree(directory, ignore_errors=True)
