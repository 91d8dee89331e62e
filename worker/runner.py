"""One job, top to bottom: resolve, download, compress, publish. Runs in the job's own process.

The supervisor has claimed the job before this process exists, holds its lease, and speaks the last word when
this process ends without having said one. Every write here carries the attempt and the worker's name, so that
a process that outlived its lease changes nothing.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from examples import CALIBRATION_TEXT, EVALUATION_TEXT
from service.hub.destination import check_destination
from service.hub.model import ResolvedModel, check_compressible, check_license
from service.jobs.schema import Job, JobResult, JobText
from service.jobs.store import JobStore
from service.jobs.windows import job_recipe
from service.platform.tracing import span
from srr_core.errors import ResumeMismatchError
from srr_core.recipe import Recipe
from srr_core.report import Report
from worker.hub import ModelHub, PublishedCommit
from worker.progress import JobProgress
from worker.publisher import publish_artifact
from worker.workspace import Workspace

if TYPE_CHECKING:  # that module loads torch, which takes seconds and is needed by the core only
    from srr_core.types import OnProgress, ShouldStop

PARTIAL_SUFFIX = ".partial"
"""What the core adds to the name of an artifact for its unfinished layers."""
SPACE_FACTOR = 2.5
"""Scratch space as a multiple of the download: source, unfinished layers and artifact at their largest. A heuristic."""


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


@dataclass(frozen=True)
class Tools:
    """What a run works with; built in the composition root."""

    store: JobStore
    source_hub: Callable[[str], ModelHub]
    """Which hub has a model."""
    destination_hub: ModelHub
    compress: Compress
    device: str
    require_free: Callable[[int], None]
    """Raises StorageError unless so many bytes fit."""


@dataclass(frozen=True)
class Assignment:
    """A claimed job, as the supervisor hands it over."""

    job_id: str
    attempt: int
    worker: str
    token: str | None = None


class LeaseLostError(Exception):
    """The attempt belongs to another worker, or was canceled: stop, and write nothing more."""


def run(assignment: Assignment, tools: Tools, workspace: Workspace, should_stop: "ShouldStop") -> None:
    """Carry out a claimed job and leave it succeeded.

    Raises:
        HubError, SrrError: a hop failed; `failures.failure_of` has the words for it.
        StopRequested: `should_stop` said so; finished layers stay in the workspace.
        LeaseLostError: the job is not ours any more.
    """
    job = tools.store.get(assignment.job_id)
    progress = JobProgress(tools.store, job.id, assignment.attempt, assignment.worker)

    def stop() -> bool:
        return should_stop() or progress.is_lost

    with span("resolve"):
        model = _resolve(job, assignment, tools, progress)
    with span("download"):
        source = _download(job, model, assignment, tools, workspace, progress, stop)
    with span("compress"):
        report = _compress(job, model, source, tools, workspace, progress, stop)
    with span("publish"):
        commit = _publish(job, model, report, assignment, tools, workspace, progress)
    result = JobResult(repo_id=commit.repo_id, commit_sha=commit.sha, commit_url=commit.url)
    _still_ours(
        tools.store.succeed(
            job.id, assignment.attempt, worker=assignment.worker, result=result, report=report.model_dump(mode="json")
        )
    )


def _resolve(job: Job, assignment: Assignment, tools: Tools, progress: JobProgress) -> ResolvedModel:
    progress.advance("download", 0, 1)
    hub = tools.source_hub(job.source.model_id)
    # A later attempt keeps the commit of the first: main may have moved, and its layers are half done.
    revision = job.source.sha or job.source.revision
    model = hub.resolve(job.source.model_id, revision, token=assignment.token)
    check_compressible(model)
    if not hub.is_local:
        check_license(model, acknowledged=job.acknowledge_license)
    destination = tools.destination_hub.destination(job.destination.repo_id, token=assignment.token)
    check_destination(destination, model, private=job.destination.private)
    _still_ours(tools.store.resolve_source(job.id, assignment.attempt, worker=assignment.worker, sha=model.sha))
    progress.say(f"Resolved {model.model_id} at {job.source.revision} to commit {model.sha[:12]}.")
    return model


def _download(
    job: Job,
    model: ResolvedModel,
    assignment: Assignment,
    tools: Tools,
    workspace: Workspace,
    progress: JobProgress,
    should_stop: "ShouldStop",
) -> Path:
    present = workspace.size_bytes()
    tools.require_free(max(0, int(model.download_bytes * SPACE_FACTOR) - present))
    # By the id that was asked for: the canonical one, after a rename, might be known to another hub.
    path = tools.source_hub(job.source.model_id).download(
        model, workspace.source, token=assignment.token, on_progress=progress.on_bytes, should_stop=should_stop
    )
    progress.say(f"Downloaded {len(model.downloads)} files, {model.download_bytes:,} bytes, and checked each.")
    return path


def _compress(
    job: Job,
    model: ResolvedModel,
    source: Path,
    tools: Tools,
    workspace: Workspace,
    progress: JobProgress,
    should_stop: "ShouldStop",
) -> Report:
    recipe = job_recipe(job)
    finished = _finished_report(workspace, model, recipe)
    if finished is not None:
        progress.say("Found the artifact of an earlier attempt, complete.")
        return finished
    shutil.rmtree(workspace.artifact, ignore_errors=True)

    def compress() -> Report:
        return tools.compress(
            source,
            recipe,
            workspace.artifact,
            calibration_text=_text(job.calibration, workspace.calibration_text, CALIBRATION_TEXT, tools.store),
            evaluation_text=_text(job.evaluation, workspace.evaluation_text, EVALUATION_TEXT, tools.store),
            model_id=model.model_id,
            revision=model.sha,
            artifact_id=job.destination.repo_id,
            device=tools.device,
            on_progress=progress.on_progress,
            should_stop=should_stop,
        )

    try:
        return compress()
    except ResumeMismatchError as error:
        # An upgrade, or another machine, between two attempts: nobody is there to remove the folder by hand.
        progress.say(f"The layers of an earlier attempt cannot be continued, so this one starts over: {error}")
        shutil.rmtree(workspace.artifact.with_name(f"{workspace.artifact.name}{PARTIAL_SUFFIX}"), ignore_errors=True)
        return compress()


def _publish(
    job: Job,
    model: ResolvedModel,
    report: Report,
    assignment: Assignment,
    tools: Tools,
    workspace: Workspace,
    progress: JobProgress,
) -> PublishedCommit:
    _still_ours(tools.store.publishing(job.id, assignment.attempt, worker=assignment.worker))
    progress.advance("publish", 0, 1)
    commit = publish_artifact(
        tools.destination_hub,
        workspace.artifact,
        repo_id=job.destination.repo_id,
        report=report,
        source=model,
        source_directory=workspace.source,
        job_id=job.id,
        token=assignment.token,
        private=job.destination.private,
    )
    progress.say(f"Published {commit.repo_id} at commit {commit.sha[:12]}.")
    return commit


def _text(text: JobText | None, path: Path, bundled: Path, store: JobStore) -> Path:
    if text is None or text.sha256 is None:
        return bundled
    # Bytes, because text mode would rewrite line ends and so change the tokens.
    path.write_bytes(store.text(text.sha256).encode())
    return path


def _finished_report(workspace: Workspace, model: ResolvedModel, recipe: Recipe) -> Report | None:
    path = workspace.artifact / "report.json"
    if not path.is_file():
        return None
    report = Report.model_validate_json(path.read_bytes())
    return report if report.source.sha == model.sha and report.recipe == recipe else None


def _still_ours(written: bool) -> None:
    if not written:
        raise LeaseLostError
