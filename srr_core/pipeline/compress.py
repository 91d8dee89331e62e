"""The use case: every step of a run, in order."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from srr_core.checkpoint.writer import write_json
from srr_core.errors import StorageError
from srr_core.pipeline.assemble import assemble
from srr_core.pipeline.baselines import Baselines
from srr_core.pipeline.budgeting import TABLE_FILE, carry, spend_budget
from srr_core.pipeline.judging import evaluate_beside, verify_written
from srr_core.pipeline.layers import LayerCompressor, finished_layers
from srr_core.pipeline.plan import RunPlan, plan_run
from srr_core.pipeline.rehearsal import rehearse
from srr_core.pipeline.repairing import Repaired, repair
from srr_core.pipeline.reporting import build_report
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import Recipe, cost
from srr_core.recipe.stages import Stage
from srr_core.report import Report
from srr_core.types import OnProgress, ShouldStop
from srr_core.verification.verify import ExpectedLayer

BeforePublish = Callable[[Path, Report], None]
_UNREPAIRED = "unrepaired"
_REPAIR = "repair"


def compress(
    source: Path,
    recipe: Recipe,
    destination: Path,
    *,
    calibration_text: Path,
    evaluation_text: Path | None = None,
    model_id: str | None = None,
    revision: str | None = None,
    artifact_id: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    before_publish: BeforePublish | None = None,
    scores: Path | None = None,
) -> Report:
    """Compress a checkpoint folder into a new folder, verify what was written, and measure it.

    The source is never in memory as a whole: one block, its statistics and the hidden states of the calibration
    windows are. Finished layers are kept in `<destination>.partial`; the same call after an interruption goes on
    from there and gives the same bits. The destination appears complete, by one rename, or not at all.

    Args:
        source: Folder with config.json, safetensors weights and a tokenizer. Not modified.
        destination: Folder that does not exist yet.
        calibration_text: UTF-8 text whose first windows the statistics are taken from.
        evaluation_text: UTF-8 text the result is measured on, beside its source; None skips it.
        model_id: What the source is called in the report and in seeds; the folder's name by default.
        revision: Commit sha of the source, if it has one.
        artifact_id: Repository the artifact will be published as, if any; the adapter refers to it.
        device: auto, cpu or cuda.
        on_progress: Called after every unit of every stage, in this thread.
        should_stop: Asked between units; True ends the run within one layer.
        before_publish: Given the complete folder and the report before the destination appears, to add files.
        scores: The score table of an earlier search, `budget.json` of its artifact. Used where the recipe has a budget
            and all but its target is the same; otherwise settings are scored anew.
    Raises:
        SrrError: any leaf of the tree in `srr_core.errors`; nothing is left at the destination.
    """
    monitor = RunMonitor(on_progress, should_stop)
    with monitor.stage(Stage.PLAN, 1):
        plan = plan_run(
            source,
            recipe,
            destination,
            model_id=model_id,
            revision=revision,
            artifact_id=artifact_id,
            calibration_text=calibration_text,
            evaluation_text=evaluation_text,
            device=device,
        )
        rehearse(plan, should_stop=should_stop)
        monitor.advance(Stage.PLAN)
    with closing(WorkFolder(destination, plan.fingerprint())) as work:
        report = _run(plan, work, monitor, scores)
        if before_publish is not None:
            try:
                before_publish(work.artifact, report)
            except OSError as error:
                raise StorageError(f"{work.artifact} could not be completed: {error.strerror or error}") from error
        work.publish()
    return report


def _run(plan: RunPlan, work: WorkFolder, monitor: RunMonitor, scores: Path | None) -> Report:
    asked = plan.recipe
    kept_table = work.path / TABLE_FILE
    if scores is not None and not kept_table.exists():
        carry(scores, kept_table)
    plan, budget = spend_budget(plan, monitor, kept_table=kept_table)
    baselines = Baselines(plan, work, monitor)
    compressor = LayerCompressor(plan, work, monitor, baselines)
    with monitor.stage(Stage.COMPRESS, len(plan.layers.layers)):
        compressor.run()
    with monitor.stage(Stage.ASSEMBLE, 1):
        compressed_bytes = assemble(plan, work)
        monitor.advance(Stage.ASSEMBLE)
    expected = tuple(ExpectedLayer(layer.name, record.digest) for layer, record in finished_layers(plan, work))
    repaired = _repaired(plan, work, monitor)
    if repaired is not None:
        expected = repaired.layers
    notes = (*(repaired.notes if repaired else ()), *verify_written(plan, work.artifact, expected, monitor))
    measurements, beside = evaluate_beside(plan, work.artifact, baselines.all, monitor)
    size = cost.size_note(
        source_bytes=plan.weights.total_bytes(),
        result_bytes=compressed_bytes,
        kept_bytes=sum(plan.weights.entries[name].num_bytes for name in plan.layers.kept),
    )
    report = build_report(
        plan,
        work,
        compressed_bytes,
        measurements,
        monitor.seconds,
        unused=compressor.unused,
        budget=budget,
        baselines=beside,
        repair=None if repaired is None else repaired.report,
        notes=(*plan.notes, *([size] if size else []), *notes),
    )
    write_json(work.artifact / "report.json", report.model_dump(mode="json"))
    write_json(work.artifact / "recipe.json", asked.model_dump(mode="json"))
    if budget is not None:
        carry(kept_table, work.artifact / TABLE_FILE)
    return report


def _repaired(plan: RunPlan, work: WorkFolder, monitor: RunMonitor) -> Repaired | None:
    """Put what a repair makes of the assembled artifact in its place."""
    if plan.recipe.repair is None:
        return None
    unrepaired = work.path / _UNREPAIRED
    shutil.rmtree(unrepaired, ignore_errors=True)
    work.artifact.rename(unrepaired)
    work.artifact.mkdir()
    repaired = repair(plan, unrepaired, work.artifact, work.path / _REPAIR, monitor)
    shutil.rmtree(unrepaired, ignore_errors=True)
    return repaired
