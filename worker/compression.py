"""A compression, top to bottom: resolve, download, compress, publish."""

import json
import shutil
from pathlib import Path

from examples import CALIBRATION_TEXT, EVALUATION_TEXT
from service.hub.model import ResolvedModel, check_compressible
from service.jobs.ports import JobReading
from service.jobs.schema import Job, JobResult
from service.jobs.windows import job_recipe
from service.jobs.work import CompressWork, JobText
from service.platform.tracing import span
from srr_core.errors import ResumeMismatchError
from srr_core.recipe import Recipe
from srr_core.recipe.architectures import check_config
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.stages import Stage
from srr_core.report import Report, read_report
from worker.hub import PublishedCommit
from worker.publisher import publish_artifact
from worker.run_context import Finished, RunContext
from worker.shared_hubs import resolved, settle, write_down_publisher
from worker.workspace import Workspace

PARTIAL_SUFFIX = ".partial"
"""What the core adds to the name of an artifact for its unfinished layers."""
SPACE_FACTOR = 2.5
"""Scratch space as a multiple of the download: source, unfinished layers and artifact at their largest. A heuristic."""


def compress_and_publish(job: Job, work: CompressWork, context: RunContext) -> Finished:
    """Carry out a compression. Raises what `runner.run` says."""
    with span("resolve"):
        model = _resolve(work, context)
    with span("download"):
        source = _download(work, model, context)
    with span("compress"):
        report = _compress(work, model, source, context)
    context.progress.tell_missing(report.layers, should_stop=context.should_stop)
    with span("publish"):
        commit = _publish(job, work, model, report, context)
    with span("smoke test"):
        rows = context.smoke_test(context.workspace.artifact)
    for row in rows:
        context.progress.say(f"{row.runtime}: {row.verdict}, {row.reason} ({row.versions or 'version unknown'}).")
    result = JobResult(repo_id=commit.repo_id, commit_sha=commit.sha, commit_url=commit.url, runtimes=rows)
    return Finished(result, report)


def _resolve(work: CompressWork, context: RunContext) -> ResolvedModel:
    context.progress.advance(Stage.DOWNLOAD, 0, 1)
    hub = context.source_hub(work.source.model_id)
    model = resolved(work.source, context)
    check_compressible(model)
    check_config(model.config)
    # The headers, before hours of download: not every submission could be checked.
    hub.inspect(model, token=context.access.token_for(work.source.model_id))
    settle(work.source, model, work.destination, context, acknowledged=work.acknowledge_license)
    return model


def _download(work: CompressWork, model: ResolvedModel, context: RunContext) -> Path:
    present = context.workspace.size_bytes()
    context.require_free(max(0, int(model.download_bytes * SPACE_FACTOR) - present))
    # By the id that was asked for: the canonical one, after a rename, might be known to another hub.
    path = context.source_hub(work.source.model_id).download(
        model,
        context.workspace.source,
        token=context.access.token_for(work.source.model_id),
        on_progress=context.progress.on_bytes,
        should_stop=context.should_stop,
    )
    size = size_words(model.download_bytes)
    context.progress.say(f"Downloaded {len(model.downloads)} files, {size}, and checked each.")
    return path


def _compress(work: CompressWork, model: ResolvedModel, source: Path, context: RunContext) -> Report:
    recipe, workspace = job_recipe(work), context.workspace
    finished = _finished_report(workspace, model, recipe)
    if finished is not None:
        context.progress.say("Found the artifact of an earlier attempt, complete.")
        return finished
    shutil.rmtree(workspace.artifact, ignore_errors=True)

    def compress() -> Report:
        return context.compress(
            source,
            recipe,
            workspace.artifact,
            calibration_text=_text(work.calibration, workspace.calibration_text, CALIBRATION_TEXT, context.store),
            evaluation_text=_text(work.evaluation, workspace.evaluation_text, EVALUATION_TEXT, context.store),
            model_id=model.model_id,
            revision=model.sha,
            artifact_id=work.destination.repo_id,
            device=context.device,
            on_progress=context.progress.on_progress,
            should_stop=context.should_stop,
        )

    try:
        return compress()
    except ResumeMismatchError as error:
        # An upgrade, or another machine, between two attempts: nobody is there to remove the folder by hand.
        context.progress.say(f"The layers of an earlier attempt cannot be continued, so this one starts over: {error}")
        shutil.rmtree(workspace.artifact.with_name(f"{workspace.artifact.name}{PARTIAL_SUFFIX}"), ignore_errors=True)
        return compress()


def _publish(
    job: Job, work: CompressWork, model: ResolvedModel, report: Report, context: RunContext
) -> PublishedCommit:
    context.require_ours(context.store.publishing(context.lease))
    context.progress.advance(Stage.PUBLISH, 0, 1)
    repo_id = work.destination.repo_id
    write_down_publisher(repo_id, context)
    commit = publish_artifact(
        context.destination_hub,
        context.workspace.artifact,
        repo_id=repo_id,
        report=report,
        source=model,
        source_directory=context.workspace.source,
        job_id=job.id,
        token=context.access.token_for(repo_id),
        private=work.destination.private,
    )
    context.progress.say(f"Published {commit.repo_id} at commit {commit.sha[:12]}.")
    return commit


def _text(text: JobText | None, path: Path, bundled: Path, store: JobReading) -> Path:
    if text is None or text.sha256 is None:
        return bundled
    # Bytes, because text mode would rewrite line ends and so change the tokens.
    path.write_bytes(store.text(text.sha256).encode())
    return path


def _finished_report(workspace: Workspace, model: ResolvedModel, recipe: Recipe) -> Report | None:
    path = workspace.artifact / "report.json"
    if not path.is_file():
        return None
    try:
        report = read_report(json.loads(path.read_bytes()))
    except ValueError:
        return None  # of a version that says something else by it: not an artifact of this run
    return report if report.source.sha == model.sha and report.recipe == recipe else None
