"""A conversion, top to bottom: resolve an artifact, download it whole, write it in another format, publish that."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from service.hub.destination import CONVERSION_FILE
from service.hub.model import ResolvedModel, check_readable
from service.jobs.schema import Job, JobResult
from service.jobs.work import ConvertWork
from service.platform.tracing import span
from srr_core.conversion_report import ConversionReport
from srr_core.errors import ExportError
from srr_core.recipe.stages import CONVERSION, Stage
from worker.publisher import carry_legal_files, check_adapter, publish_folder
from worker.run_context import Finished, RunContext
from worker.shared_hubs import download_whole, resolved, settle, write_down_publisher

if TYPE_CHECKING:  # torch: only what computes pays for it
    from srr_core.types import Progress

SPACE_FACTOR = {"gguf": 3, "gptq": 3, "merged": 10}
"""Scratch space as a multiple of the artifact: itself and the other form. Codes of 2 bits become eight times as many in
dense weights of 16. A heuristic."""


def convert_and_publish(job: Job, work: ConvertWork, context: RunContext) -> Finished:
    """Carry out a conversion. Raises what `runner.run` says."""
    with span("resolve"):
        model = _resolve(work, context)
    with span("download"):
        download_whole(work.source, model, context, space_factor=SPACE_FACTOR[work.target.kind])
    with span("convert"):
        report = _convert(work, model, context)
    with span("publish"):
        result = _publish(job, work, model, context)
    return Finished(result, report)


def _resolve(work: ConvertWork, context: RunContext) -> ResolvedModel:
    context.progress.advance(Stage.DOWNLOAD, 0, 1)
    model = resolved(work.source, context)
    check_readable(model)
    if any(file.path == CONVERSION_FILE for file in model.files):
        raise ExportError(f"{model.model_id} is a conversion already; convert what it was made from")
    acknowledged = work.acknowledge_license
    settle(work.source, model, work.destination, context, acknowledged=acknowledged, holding="conversion")
    return model


def _convert(work: ConvertWork, model: ResolvedModel, context: RunContext) -> ConversionReport:
    from srr_core.pipeline.convert import convert

    # What an earlier attempt left is made again: it takes minutes, and its report says when it was made.
    shutil.rmtree(context.workspace.artifact, ignore_errors=True)
    report = convert(
        context.workspace.source,
        context.workspace.artifact,
        work.target,
        model_id=model.model_id,
        revision=model.sha,
        result_id=work.destination.repo_id,
        on_progress=lambda step: _tell(step, context),
        should_stop=context.should_stop,
    )
    for remark in report.remarks:
        context.progress.say(f"Converted to {work.target.kind}: {remark}.")
    return report


def _tell(step: "Progress", context: RunContext) -> None:
    if step.stage in CONVERSION:
        context.progress.advance(Stage(step.stage), step.completed, step.total)


def _publish(job: Job, work: ConvertWork, model: ResolvedModel, context: RunContext) -> JobResult:
    context.require_ours(context.store.publishing(context.lease))
    context.progress.advance(Stage.PUBLISH, 0, 1)
    folder: Path = context.workspace.artifact
    repo_id = work.destination.repo_id
    write_down_publisher(repo_id, context)
    check_adapter(folder, repo_id)
    carry_legal_files(context.workspace.source, folder)
    commit = publish_folder(
        context.destination_hub,
        folder,
        repo_id=repo_id,
        source=model,
        holding="conversion",
        message=f"Publish {model.model_id} as {work.target.kind}",
        job_id=job.id,
        token=context.access.token_for(repo_id),
        private=work.destination.private,
    )
    context.progress.say(f"Published {commit.repo_id} at commit {commit.sha[:12]}.")
    return JobResult(repo_id=commit.repo_id, commit_sha=commit.sha, commit_url=commit.url)
