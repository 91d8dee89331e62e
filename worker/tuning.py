"""A fine-tuning, top to bottom: resolve, download, then the core's own stages, and publish."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from examples import CALIBRATION_TEXT
from service.hub.model import ResolvedModel, check_compressible, going_on
from service.jobs.schema import Job, JobResult
from service.jobs.work import DatasetFile, FinetuneWork, StoredText
from service.platform.tracing import span
from srr_core.errors import ResumeMismatchError, StopRequested, TrainingDataError
from srr_core.recipe.stages import TUNING, Stage
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, RecompressedResult
from srr_core.tuners.kept import require_kept
from srr_core.tuners.report import REPORT_NAME, CheckpointRow, TuningReport, read_tuning_report
from worker.publisher import carry_legal_files, check_adapter, publish_folder, quant_method
from worker.run_context import Finished, RunContext
from worker.shared_hubs import download_whole, resolved, settle, training_file, write_down_publisher
from worker.tuning_card import tuning_card

if TYPE_CHECKING:  # torch: only what computes pays for it
    from srr_core.pipeline.tuning_plan import TuningPlan
    from srr_core.types import Progress

SPACE_FACTOR = 4.0
"""Scratch space as a multiple of the download: source, base, checkpoints and result at their largest. A heuristic."""
_PARTIAL_SUFFIX = ".partial"
_ENDINGS = {"jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "text": ".txt"}


def tune_and_publish(job: Job, work: FinetuneWork, context: RunContext) -> Finished:
    """Carry out a fine-tuning. Raises what `runner.run` says."""
    with span("resolve"):
        model = _resolve(work, context)
    with span("download"):
        data = _download(work, model, context)
    with span("finetune"):
        report = _finished_report(model, context) or _tune(work, model, data, context)
    with span("publish"):
        result = _publish(job, work, model, report, context)
    return Finished(result, report)


def _resolve(work: FinetuneWork, context: RunContext) -> ResolvedModel:
    context.progress.advance(Stage.DOWNLOAD, 0, 1)
    # A later attempt keeps the commit of the first: its checkpoints are of that model.
    model, start = resolved(work.source, context), work.tuning.start
    if isinstance(start, ArtifactStart):
        model = going_on(model, start.checkpoint)
        if start.checkpoint is not None:
            require_kept(model.model_id, start.checkpoint, model.kept_steps)
    check_compressible(model)
    acknowledged = work.acknowledge_license
    settle(work.source, model, work.destination, context, acknowledged=acknowledged, holding="fine-tuning")
    return model


def _download(work: FinetuneWork, model: ResolvedModel, context: RunContext) -> Path:
    """Fetch model and data, and return the file of the data."""
    download_whole(work.source, model, context, space_factor=SPACE_FACTOR)
    context.workspace.data.mkdir(exist_ok=True)
    if not isinstance(work.data, DatasetFile):
        return _written(work.data, context, f"data{_ENDINGS[work.data.format]}")
    file = training_file(work.data, context)
    context.progress.say(f"Downloaded {work.data.path} of dataset {work.data.dataset}.")
    return file


def _written(text: StoredText, context: RunContext, name: str) -> Path:
    if text.sha256 is None:
        raise TrainingDataError("the job came without the text of its data; submit it again")
    path = context.workspace.data / name
    # Bytes, because text mode would rewrite line ends and so change the tokens.
    path.write_bytes(context.store.text(text.sha256).encode())
    return path


def _tune(work: FinetuneWork, model: ResolvedModel, data: Path, context: RunContext) -> TuningReport:
    from srr_core.pipeline.finetune import finetune

    workspace, spec = context.workspace, work.tuning
    shutil.rmtree(workspace.artifact, ignore_errors=True)
    compresses = isinstance(spec.start, RecipeStart) or isinstance(spec.result, RecompressedResult)
    calibration = (
        CALIBRATION_TEXT if work.calibration is None else _written(work.calibration, context, "calibration.txt")
    )

    def run() -> TuningReport:
        return finetune(
            workspace.source,
            data,
            spec,
            workspace.artifact,
            validation_data=None
            if work.validation is None
            else _written(work.validation, context, f"validation{_ENDINGS[work.validation.format]}"),
            calibration_text=calibration if compresses else None,
            neutral_text=None if work.neutral is None else _written(work.neutral, context, "neutral.txt"),
            model_id=model.model_id,
            revision=model.sha,
            artifact_id=work.destination.repo_id,
            device=context.device,
            on_plan=lambda plan: _tell_plan(plan, context),
            on_checkpoint=lambda row: _tell_checkpoint(row, context),
            on_progress=lambda step: _tell(step, context),
            should_stop=context.should_stop,
        )

    try:
        return run()
    except ResumeMismatchError as error:
        # An upgrade, or another machine, between two attempts: nobody is there to remove the folder by hand.
        context.progress.say(f"The checkpoints of an earlier attempt cannot be continued, so this starts over: {error}")
        partial = workspace.artifact.with_name(f"{workspace.artifact.name}{_PARTIAL_SUFFIX}")
        shutil.rmtree(partial, ignore_errors=True)
        return run()
    except StopRequested:
        context.progress.flush()  # the checkpoint that was just written holds these steps: nobody records them again
        raise


def _tell_plan(plan: "TuningPlan", context: RunContext) -> None:
    report = plan.dataset.report
    context.progress.tell(
        "data",
        {
            "report": report.model_dump(mode="json"),
            "spec": plan.spec.model_dump(mode="json"),
            "cells": [{"learning_rate": rate, "seed": seed} for rate, seed in plan.spec.cells()],
        },
    )
    context.progress.say(
        f"Checked the data: {report.training.examples:,} examples to learn from and {report.validation.examples:,} to "
        f"judge by, {report.steps:,} steps."
    )


def _tell_checkpoint(row: CheckpointRow, context: RunContext) -> None:
    context.progress.tell("checkpoint", row.model_dump(mode="json"))


def _tell(step: "Progress", context: RunContext) -> None:
    if step.stage in TUNING:  # calibration and compression alternate, and finished layers alone count
        context.progress.on_progress(step)


def _finished_report(model: ResolvedModel, context: RunContext) -> TuningReport | None:
    """Return the report of the result an earlier attempt left complete: the job and its commit never change."""
    path = context.workspace.artifact / REPORT_NAME
    if not path.is_file():
        return None
    try:
        report = read_tuning_report(json.loads(path.read_bytes()))
    except ValueError:
        return None  # of a version that says something else by it
    if report.source.sha != model.sha:
        return None
    context.progress.say("Found the result of an earlier attempt, complete.")
    return report


def _publish(
    job: Job, work: FinetuneWork, model: ResolvedModel, report: TuningReport, context: RunContext
) -> JobResult:
    context.require_ours(context.store.publishing(context.lease))
    context.progress.advance(Stage.PUBLISH, 0, 1)
    folder, repo_id = context.workspace.artifact, work.destination.repo_id
    write_down_publisher(repo_id, context)
    check_adapter(folder, repo_id)
    carry_legal_files(context.workspace.source, folder)
    stated = json.loads((folder / "config.json").read_bytes()).get("quantization_config")
    card = tuning_card(
        report, repo_id=repo_id, source=model, quant_method=None if stated is None else quant_method(folder)
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    commit = publish_folder(
        context.destination_hub,
        folder,
        repo_id=repo_id,
        source=model,
        holding="fine-tuning",
        message=f"Publish {model.model_id} fine-tuned from {work.recipe_name}",
        facts=(f"Specification: {report.spec.digest()}",),
        job_id=job.id,
        token=context.access.token_for(repo_id),
        private=work.destination.private,
    )
    context.progress.say(f"Published {commit.repo_id} at commit {commit.sha[:12]}.")
    return JobResult(repo_id=commit.repo_id, commit_sha=commit.sha, commit_url=commit.url)
