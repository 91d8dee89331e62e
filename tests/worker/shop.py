"""One job at a time in this process, between two folder hubs: everything but the supervisor is real."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.jobs.memory_store import MemoryJobStore
from service.jobs.policy import RetryPolicy
from service.jobs.schema import Job, JobSubmission
from service.jobs.tables import metadata
from service.jobs.tenancy import Tenancy
from service.jobs.work import Work
from service.platform.database import open_database
from tests.service.submitting import submitted
from worker.dataset_hub import DatasetHub
from worker.folder_hub import FolderHub
from worker.hub_access import HubAccess
from worker.progress import ProgressRecorder
from worker.run_context import RunContext
from worker.runner import run
from worker.workspace import Workspace

LEASE = timedelta(minutes=10)


def _no_compression(*_: Any, **__: Any) -> Any:
    raise AssertionError("this kind of work does not compress by itself")


@dataclass
class Shop:
    """A store, two hubs, and the scratch space of one job."""

    folder: Path
    asked_to_stop: Callable[[], bool] = lambda: False
    datasets: Callable[[], DatasetHub] | None = None
    tenancy: Tenancy = field(init=False)
    store: MemoryJobStore = field(default_factory=lambda: MemoryJobStore(retries=RetryPolicy(first=timedelta(0))))

    def __post_init__(self) -> None:
        """Give it loans and publications of its own."""
        engine = open_database(f"sqlite:///{self.folder / 'tenancy.sqlite3'}")
        metadata.create_all(engine)
        self.tenancy = Tenancy(engine)

    @property
    def source(self) -> FolderHub:
        return FolderHub(self.folder / "source-hub")

    @property
    def destination(self) -> FolderHub:
        return FolderHub(self.folder / "destination-hub")

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "scratch")

    def submit(self, work: Work, **choices: Any) -> Job:
        return submitted(self.store, JobSubmission(work=work), **choices)

    def attempt(self, job: Job, attempt: int = 1) -> Job:
        claim = self.store.claim(job.id, attempt, worker="w", lasts=LEASE)
        assert claim is not None
        self.workspace.temporary.mkdir(parents=True, exist_ok=True)
        run(
            RunContext(
                lease=claim.lease,
                access=HubAccess(),
                tenant=self.tenancy.of(job.owner),
                store=self.store,
                source_hub=lambda model_id: self.source,
                destination_hub=self.destination,
                compress=_no_compression,
                device="cpu",
                require_free=lambda needed: None,
                workspace=self.workspace,
                cache=self.folder / "cache",
                datasets=self.datasets,
                progress=ProgressRecorder(self.store, claim.lease),
                asked_to_stop=self.asked_to_stop,
            )
        )
        return self.store.get(job.id)

    def log(self, job: Job) -> list[str]:
        return [str(event.data["message"]) for event in self.store.events(job.id, kinds=("log",))]
