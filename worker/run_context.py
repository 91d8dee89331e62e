"""What one run of a job works with, whatever its kind of work."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from service.jobs.ports import JobsOfWorkers
from service.jobs.schema import Job, JobResult, Lease
from service.jobs.tenancy import Tenant
from srr_core.recipe import Recipe
from srr_core.recipe.verdicts import CompatibilityRow
from srr_core.report import Report
from worker.hub import ModelHub
from worker.hub_access import HubAccess
from worker.progress import ProgressRecorder
from worker.workspace import Workspace

if TYPE_CHECKING:  # that module loads torch, which takes seconds and is needed by the core only
    from srr_core.types import OnProgress, ShouldStop
    from worker.dataset_hub import DatasetHub


class Compress(Protocol):
    """The core's entry point, `srr_core.pipeline.compress`."""

    def __call__(
        self,
        source: Path,
        recipe: Recipe,
        destination: Path,
        *,
        calibration_text: Path,
        evaluation_text: Path | None,
        model_id: str | None,
        revision: str | None,
        artifact_id: str | None,
        device: str,
        on_progress: "OnProgress | None",
        should_stop: "ShouldStop | None",
    ) -> Report:
        """Compress a folder into a new folder, or resume what an earlier call left beside it."""


class LeaseLostError(Exception):
    """The attempt belongs to another worker, or was canceled: stop, and write nothing more."""


@dataclass(frozen=True)
class RunContext:
    """Everything a run works with; built in the composition root of the job's process."""

    lease: Lease
    access: HubAccess
    """The Hub tokens of the job."""
    tenant: Tenant
    """Its owner among the others."""
    store: JobsOfWorkers
    source_hub: Callable[[str], ModelHub]
    """Which hub has a model."""
    destination_hub: ModelHub
    compress: Compress
    device: str
    require_free: Callable[[int], None]
    """Raises StorageError unless so many bytes fit."""
    workspace: Workspace
    cache: Path
    """What jobs of this machine share: public datasets, and what public sources scored."""
    datasets: "Callable[[], DatasetHub] | None"
    """Where public datasets are fetched from; None where nothing may be fetched."""
    progress: ProgressRecorder
    asked_to_stop: Callable[[], bool]
    smoke_test: Callable[[Path], tuple[CompatibilityRow, ...]] = lambda _: ()
    """Runs a published artifact in the servers of this machine; raises nothing."""

    def should_stop(self) -> bool:
        """Whether the run was asked to stop, or works for nobody because the lease is lost."""
        return self.asked_to_stop() or self.progress.is_lost

    def require_ours(self, written: bool) -> None:
        """Raise LeaseLostError unless a fenced write has counted."""
        if not written:
            raise LeaseLostError


@dataclass(frozen=True)
class Finished:
    """What a run leaves behind when it succeeds."""

    result: JobResult | None
    """None where nothing was published."""
    report: BaseModel


CarryOut = Callable[[Job, Any, RunContext], Finished]
"""Carries out one kind of work, the second argument, from the claimed job to its result."""
