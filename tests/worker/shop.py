"""One job at a time in this process, between two folder hubs: everything but the supervisor is real."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.jobs.memory_store import MemoryJobStore
from service.jobs.policy import RetryPolicy
from service.jobs.schema import Job, JobSubmission
from service.jobs.work import Work
from tests.service.submitting import submitted
from worker.dataset_hub import DatasetHub
from worker.folder_hub import FolderHub
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
    store: MemoryJobStore = field(default_factory=lambda: MemoryJobStore(retries=RetryPolicy(first=timedelta(0))))

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
                token=None,
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
