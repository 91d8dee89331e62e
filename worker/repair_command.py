"""`srr repair`: an artifact on this machine whose L·R and scales learn from its source."""

import shutil
from pathlib import Path

from examples import CALIBRATION_TEXT, EVALUATION_TEXT
from service.commands.output import print_json, print_line
from service.commands.places import require_source
from service.commands.progress import ProgressBar
from service.commands.report_text import print_report
from srr_core.checkpoint.index import read_json
from srr_core.errors import CheckpointError
from srr_core.pipeline.repair_artifact import repair_artifact
from srr_core.recipe import RepairSpec
from srr_core.recipe.stages import Stage, share_done
from srr_core.report import RepairReport, SourceReport
from srr_core.types import Progress
from worker.commands import (
    download_folder,
    local_source,
    quiet_libraries,
    stop_on_interrupt,
    write_card,
)


def repair(
    artifact: Path,
    destination: Path,
    *,
    spec: RepairSpec,
    source: str | None,
    revision: str | None,
    calibration_text: Path | None,
    evaluation_text: Path | None,
    device: str,
    hub_token: str | None,
    as_json: bool,
) -> None:
    """Repair an artifact into a new folder and print what became better."""
    stated = _source_of(artifact)
    name = source or stated.id
    require_source(name)
    quiet_libraries()
    with stop_on_interrupt() as should_stop, ProgressBar(f"{artifact} → {destination}") as progress:
        wanted = revision or (stated.sha if source is None else None) or "main"
        folder, model = local_source(name, wanted, destination, hub_token, progress, should_stop)
        report = repair_artifact(
            artifact,
            folder,
            spec,
            destination,
            calibration_text=calibration_text or CALIBRATION_TEXT,
            evaluation_text=evaluation_text or EVALUATION_TEXT,
            revision=model.sha if model is not None else None,
            device=device,
            on_progress=lambda step: _show(progress, step),
            should_stop=should_stop,
            before_publish=lambda written, report: write_card(written, destination.name, report, model or folder),
        )
    shutil.rmtree(download_folder(destination), ignore_errors=True)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    print_report(report)
    if report.repair is not None:
        print_line(f"repair      {_words(report.repair)}")
    print_line(f"written     {destination}")


def _source_of(artifact: Path) -> SourceReport:
    try:
        return SourceReport.model_validate(read_json(artifact / "report.json")["source"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"report.json of {artifact.name!r} names no source: {error}") from error


def _words(found: RepairReport) -> str:
    unit = "nats per token" if found.loss == "divergence" else "of the last hidden states"
    return (
        f"held-out windows {found.start_loss:.4f} → {found.best_loss:.4f} {unit}, best at step {found.best_step} of "
        f"{found.steps} ({found.end})"
    )


def _show(progress: ProgressBar, step: Progress) -> None:
    if "held_out_loss" in step.metrics:
        progress.remark(f"step {step.metrics['step']:.0f}  held-out loss {step.metrics['held_out_loss']:.4f}")
    share = share_done(step.stage, step.completed, step.total, first=Stage.PLAN, last=Stage.EVALUATE)
    progress.advance(step.stage, share)
