"""A supervisor over a real database, a folder hub and real processes, with a stand-in for the core."""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, select

from service.jobs import tables
from service.jobs.credentials import CredentialVault
from service.jobs.policy import RetryPolicy
from service.jobs.schema import Job, JobState
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.jobs.work import JobDestination, JobSource
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database, reading
from tests.service.models import safetensors
from tests.service.submitting import submission, submitted
from tests.worker.supervised import stand_in
from worker.folder_hub import FolderHub
from worker.health import Health
from worker.lease_keeper import Limits
from worker.supervisor import Supervisor
from worker.workspace import Workspaces

ROOT = Path(__file__).resolve().parents[3]
LIMITS = Limits(
    lease=timedelta(seconds=30),
    heartbeat_seconds=0.1,
    time_limit_seconds=600,
    disk_budget_bytes=10_000_000,
    grace_seconds=5,
    look_seconds=0.05,
)


class Clock:
    """The time of the store: that of the machine, and as much more as the test says."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._stopped: datetime | None = None

    def __call__(self) -> datetime:
        return (self._stopped or utc_now()) + self._ahead

    def advance(self, delta: timedelta) -> None:
        """Stop the clock, if it still runs, and move it on."""
        self._stopped = self._stopped or utc_now()
        self._ahead += delta


@dataclass
class Bench:
    """Everything a test of the supervisor touches."""

    engine: Engine
    store: SqlJobStore
    hub: FolderHub
    vault: CredentialVault
    data_dir: Path
    clock: Clock

    @property
    def scratch(self) -> Path:
        return self.data_dir / "scratch"

    def submit(
        self,
        *,
        owner: str = "me",
        hub_token: str | None = None,
        hub_token_expires_at: datetime | None = None,
        **fields: Any,
    ) -> Job:
        """Submit a job of the seeded model."""
        defaults = {"source": JobSource(model_id="acme/base"), "destination": JobDestination(repo_id="acme/base-srr")}
        return submitted(
            self.store,
            submission(**(defaults | fields)),
            owner=owner,
            vault=self.vault,
            hub_token=hub_token,
            hub_token_expires_at=hub_token_expires_at,
        )

    def supervisor(
        self,
        behaviour: str,
        *,
        module: str = stand_in.__name__,
        worker: str = "w1",
        health: Health | None = None,
        own_token: str | None = None,
        hub_url: str | None = None,
        **limits: Any,
    ) -> Supervisor:
        """Build a supervisor whose jobs behave as named in `stand_in.BEHAVIOURS`.

        Args:
            module: Another script to run for a job; what `behaviour` means is for it to say.
            hub_url: Where the Hub is, for sources and destinations; None: the folder hub is used for both.
        """
        kind = "folder" if hub_url is None else "huggingface"
        return Supervisor(
            self.store,
            Workspaces(self.scratch, reserve_bytes=0),
            replace(LIMITS, **limits),
            worker=worker,
            command=(sys.executable, "-m", module),
            vault=self.vault,
            own_token=own_token,
            loan_of=Tenancy(self.engine).loan,
            health=health,
            environment={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SERVICE_DATA_DIR": str(self.data_dir),
                "SERVICE_SOURCE_HUB": kind,
                "SERVICE_DESTINATION_HUB": kind,
                "SERVICE_HUB_URL": hub_url or "http://127.0.0.1:9",
                "HF_HUB_DISABLE_XET": "1",
                "WORKER_DISK_RESERVE_BYTES": "0",
                "SRR_STAND_IN": behaviour,
            },
        )

    def run_aside(self, supervisor: Supervisor, job: Job, attempt: int = 1) -> threading.Thread:
        """Run a job in a thread, and return once the core is at work."""
        thread = threading.Thread(target=supervisor.run, args=(job.id, attempt), daemon=True)
        thread.start()
        self.wait_for(lambda: any((self.scratch / job.id / "artifact.partial").glob(f"attempt-{attempt}")))
        return thread

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        """Wait until a condition holds, or fail."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail("waited in vain")
            time.sleep(0.02)

    def lease_until(self, job: Job) -> datetime | None:
        """Return when the lease of a job ends."""
        with reading(self.engine) as connection:
            query = select(tables.jobs.c.lease_until).where(tables.jobs.c.id == job.id)
            found: datetime | None = connection.execute(query).scalar_one()
            return found

    def is_released(self, job: Job) -> bool:
        """Whether the last process that held the job's directory is gone."""
        with (self.scratch / job.id / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def states(self, job: Job) -> list[JobState]:
        """Return the states a job went through."""
        return [JobState(event.data["state"]) for event in self.store.events(job.id, kinds=("state",))]


@contextmanager
def open_bench(data_dir: Path) -> Iterator[Bench]:
    """Make a database and an empty hub in a folder."""
    engine = open_database(f"sqlite:///{data_dir / 'jobs.sqlite3'}")
    migrate(engine)
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    clock = Clock()
    store = SqlJobStore(engine, clock=clock, retries=RetryPolicy(first=timedelta(0)))
    yield Bench(engine, store, FolderHub(data_dir / "hub"), vault, data_dir, clock)
    engine.dispose()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(safetensors())
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with open_bench(tmp_path / "data") as bench:
        bench.hub.import_model(model, "acme/base")
        yield bench


def interruptible(data_dir: Path, job_id: str, behaviour: str = "wait") -> None:
    """Run the first attempt of a job as a worker's process does, until SIGTERM raises SystemExit."""

    def leave(*_: object) -> None:
        raise SystemExit(1)

    signal.signal(signal.SIGTERM, leave)
    engine = open_database(f"sqlite:///{data_dir / 'jobs.sqlite3'}")
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    bench = Bench(engine, SqlJobStore(engine), FolderHub(data_dir / "hub"), vault, data_dir, Clock())
    bench.supervisor(behaviour).run(job_id, 1)
