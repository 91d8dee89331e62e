"""`srr finetune`: a fine-tuning on this machine, without any service."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from examples import CALIBRATION_TEXT
from service.commands.output import duration, print_json, print_line
from service.commands.progress import ProgressBar
from service.commands.report_text import print_scores
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.stages import TUNING, Stage, share_done
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, RecompressedResult, TuningSpec
from srr_core.recipe.tuning_options import ARTIFACT, with_start
from srr_core.tuners.data_report import DataReport, Preview, TuningNeeds
from srr_core.tuners.kept import require_kept
from srr_core.tuners.report import TuningReport
from worker.commands import download_folder, local_source, quiet_libraries, stop_on_interrupt

if TYPE_CHECKING:  # torch: only what computes pays for it
    from service.hub.model import ResolvedModel
    from srr_core.types import Progress

_SHOWN_CHARACTERS = 600
"""Of an example on a terminal."""


def finetune(
    source: str,
    data: Path,
    destination: Path,
    *,
    spec: TuningSpec,
    has_start: bool,
    validation_data: Path | None,
    calibration_text: Path | None,
    neutral_text: Path | None,
    revision: str,
    device: str,
    hub_token: str | None,
    only_check: bool,
    as_json: bool,
) -> None:
    """Fine-tune a folder or a model of the Hub into a new folder and print the report, or only check the data.

    Args:
        has_start: Whether the user named a start; a model compressed by us is otherwise taken as it is.
    """
    from srr_core.pipeline.finetune import finetune as run
    from srr_core.pipeline.tuning_inspection import inspect_tuning
    from srr_core.pipeline.tuning_plan import plan_tuning
    from srr_core.tuners.folders import can_go_on

    quiet_libraries()
    with stop_on_interrupt() as should_stop, ProgressBar(f"{source} → {destination}") as progress:
        folder, model = local_source(
            source,
            revision,
            destination,
            hub_token,
            progress,
            should_stop,
            taken=lambda found: taken(found, spec, has_start=has_start),
        )
        chosen = with_start(spec, ARTIFACT) if not has_start and can_go_on(folder) else spec
        compresses = isinstance(chosen.start, RecipeStart) or isinstance(chosen.result, RecompressedResult)
        calibration = (calibration_text or CALIBRATION_TEXT) if compresses else None
        if not only_check:
            report = run(
                folder,
                data,
                chosen,
                destination,
                validation_data=validation_data,
                calibration_text=calibration,
                neutral_text=neutral_text,
                model_id=source if model is not None else None,
                revision=model.sha if model is not None else None,
                device=device,
                on_progress=lambda step: _show(progress, step),
                should_stop=should_stop,
                before_publish=lambda artifact, done: _write_card(artifact, destination.name, done, model),
            )
        else:
            plan = plan_tuning(
                folder,
                data,
                chosen,
                destination,
                validation_data=validation_data,
                calibration_text=calibration,
                neutral_text=neutral_text,
                model_id=None,
                revision=None,
                artifact_id=None,
                device=device,
            )
            needs = inspect_tuning(plan)
    if only_check:
        _print_data(plan.dataset.report, needs, plan.notes, as_json=as_json)
        return
    shutil.rmtree(download_folder(destination), ignore_errors=True)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print_report(report, destination)


def taken(model: "ResolvedModel", spec: TuningSpec, *, has_start: bool) -> "ResolvedModel":
    """Return what is fetched of a model of the Hub: a result of ours with its L·R, or with that of a checkpoint.

    Args:
        has_start: Whether the user named a start.
    Raises:
        RecipeError: it keeps no such checkpoint.
        HubError: it must not be fetched, or what lies beside its weights is an adapter of others.
    """
    from service.hub.model import check_compressible, going_on

    start = spec.start
    if isinstance(start, ArtifactStart):
        if start.checkpoint is not None:
            require_kept(model.model_id, start.checkpoint, model.kept_steps)
        model = going_on(model, start.checkpoint)
    elif not has_start:
        model = going_on(model, None)
    check_compressible(model)
    return model


def _print_data(report: DataReport, needs: TuningNeeds, notes: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({**report.model_dump(mode="json"), "estimate": needs.model_dump(mode="json")})
        return
    training, validation = report.training, report.validation
    print_line(f"rows        {training.rows:,} to learn from, {validation.rows:,} to judge by")
    print_line(f"examples    {training.examples:,} in {report.windows:,} windows, {training.tokens:,} tokens")
    if training.labels:
        print_line(f"labels      {', '.join(f'{name}: {count}' for name, count in training.labels.items())}")
    else:
        print_line(f"learned     {training.trained_tokens:,} tokens, {100 * training.trained_share:.0f} %")
    print_line(f"longest     {training.longest} tokens; {training.truncated} examples are cut")
    print_line(f"duplicates  {report.duplicates}; {report.leaked} rows are on both sides")
    print_line(f"steps       {report.steps}, {report.steps_per_epoch} an epoch")
    grid = "" if needs.trainings == 1 else f", {needs.trainings} trainings"
    print_line(f"learning    {needs.trained_parameters:,} parameters{grid}")
    base = f"{size_words(needs.base_bytes)} of it the base"
    print_line(f"memory      about {size_words(needs.memory_bytes)} while training, {base}")
    print_line(f"time        about {duration(needs.seconds)} here (a rough estimate)")
    for note in (*report.notes, *notes):
        print_line(f"note        {note}")
    for preview in report.previews:
        print_line(_shown(preview))


def _shown(preview: Preview) -> str:
    """Return an example with what is learned between « and »."""
    text = "".join(f"«{piece.text}»" if piece.is_trained else piece.text for piece in preview.pieces)
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
    label = "" if preview.label is None else f" -> {preview.label}"
    return f"row {preview.row:<8}{cut}{label}"


def _print_report(report: TuningReport, destination: Path) -> None:
    print_line(
        f"start       {report.spec.start.kind}, rank {report.start.rank}, {report.start.trained_parameters:,} trained"
    )
    print_scores(report)
    for note in report.notes:
        print_line(f"note        {note}")
    print_line(f"written     {destination}")


def _write_card(artifact: Path, name: str, report: TuningReport, model: "ResolvedModel | None") -> None:
    from service.hub.model import ResolvedModel
    from srr_core.checkpoint.index import read_json
    from worker.tuning_card import tuning_card

    folder = ResolvedModel(report.source.id, sha="", private=True, gated=False, files=())
    stated = read_json(artifact / "config.json").get("quantization_config") or {}
    card = tuning_card(report, repo_id=f"./{name}", source=model or folder, quant_method=stated.get("quant_method"))
    (artifact / "README.md").write_text(card, encoding="utf-8")


def _show(progress: ProgressBar, step: "Progress") -> None:
    if step.stage not in TUNING:  # a part of its compression
        return
    if "loss" in step.metrics:
        progress.remark(
            f"step {step.completed} of {step.total}  loss {step.metrics['loss']:.4f}  "
            f"{step.metrics['tokens_per_second']:.0f} tokens/s"
        )
    done = share_done(step.stage, step.completed, step.total, shares=TUNING, first=Stage.VALIDATE, last=Stage.VERIFY)
    progress.advance(step.stage, done)
