"""The use case of repairing a finished artifact: every step of a run, in order."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import write_json
from srr_core.errors import CheckpointError, SrrError, StorageError
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline.judging import evaluate_written, verify_written
from srr_core.pipeline.plan import RunPlan, plan_run
from srr_core.pipeline.repairing import Repaired, repair
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import RepairSpec
from srr_core.recipe.stages import Stage
from srr_core.recipe.upgrade import read_recipe
from srr_core.report import Report, read_report
from srr_core.tuners.folders import base_digest
from srr_core.types import OnProgress, ShouldStop

_REPORT, _RECIPE, _FOLDER = "report.json", "recipe.json", "repair"
_RELOADED = "reloaded with"
"""How a note begins that is said anew."""


def repair_artifact(
    artifact: Path,
    source: Path,
    spec: RepairSpec,
    destination: Path,
    *,
    calibration_text: Path,
    evaluation_text: Path | None = None,
    revision: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    before_publish: Callable[[Path, Report], None] | None = None,
) -> Report:
    """Repair an artifact of ours into a new folder, verify what was written, and measure it before and after.

    Checkpoints are kept in `<destination>.partial`; the same call after an interruption goes on from there.

    Args:
        artifact: Folder with its report.json and recipe.json. Not modified.
        source: Folder of what it was made from. Not modified.
        destination: Folder that does not exist yet.
        calibration_text: UTF-8 text to learn from, in windows of the length the artifact was calibrated with.
        evaluation_text: UTF-8 text to measure on that neither saw; None skips it.
        revision: Commit sha of the source, if it has one.
        device: auto, cpu or cuda.
        on_progress: Called after every unit of every stage, in this thread.
        should_stop: Asked between steps; True ends the run.
        before_publish: Given the complete folder and the report before the destination appears, to add files.
    Raises:
        SrrError: any leaf of the tree in `srr_core.errors`; nothing is left at the destination.
    """
    monitor = RunMonitor(on_progress, should_stop)
    with monitor.stage(Stage.PLAN, 1):
        before = _report_of(artifact)
        recipe = read_recipe(read_json(artifact / _RECIPE)).model_copy(update={"repair": spec})
        plan = plan_run(
            source,
            recipe,
            destination,
            model_id=before.source.id,
            revision=revision,
            artifact_id=None,
            calibration_text=calibration_text,
            evaluation_text=evaluation_text,
            device=device,
        )
        _require_its_source(artifact, plan, before)
        monitor.advance(Stage.PLAN)
    fingerprint = {**plan.fingerprint(), "artifact": base_digest(artifact)}
    with closing(WorkFolder(destination, fingerprint)) as work:
        repaired = repair(plan, artifact, work.artifact, work.path / _FOLDER, monitor)
        notes = (*repaired.notes, *verify_written(plan, work.artifact, repaired.layers, monitor))
        report = _report(plan, before, repaired, work.artifact, monitor, notes)
        write_json(work.artifact / _REPORT, report.model_dump(mode="json"))
        write_json(work.artifact / _RECIPE, recipe.model_dump(mode="json"))
        if before_publish is not None:
            try:
                before_publish(work.artifact, report)
            except OSError as error:
                raise StorageError(f"{work.artifact} could not be completed: {error.strerror or error}") from error
        work.publish()
    return report


def _report_of(artifact: Path) -> Report:
    open_artifact(artifact)
    try:
        return read_report(read_json(artifact / _REPORT))
    except (SrrError, ValueError) as error:
        raise CheckpointError(
            f"{_REPORT} of {artifact.name!r} cannot be read, so neither its source nor its recipe is known: {error}"
        ) from error


def _require_its_source(artifact: Path, plan: RunPlan, before: Report) -> None:
    wanted = {layer.name: layer.shape for layer in before.layers}
    found = {layer.name: layer.shape for layer in plan.layers.layers}
    other = next((name for name, shape in wanted.items() if found.get(name) != shape), None)
    if other is not None:
        raise CheckpointError(
            f"{artifact.name!r} was made from another model than {plan.source.name!r}, which has no layer {other} of "
            f"{wanted[other][0]} x {wanted[other][1]}; give the source that its report names: {before.source.id}"
        )


def _report(
    plan: RunPlan,
    before: Report,
    repaired: Repaired,
    artifact: Path,
    monitor: RunMonitor,
    notes: tuple[str, ...],
) -> Report:
    measurements = evaluate_written(plan, artifact, monitor)
    sizes = before.size_bytes.model_copy(update={"compressed": repaired.num_bytes})
    return before.model_copy(
        update={
            "recipe": before.recipe.model_copy(update={"repair": plan.recipe.repair}),
            "size_bytes": sizes,
            "measurements": measurements,
            "repair": repaired.report,
            "seconds": {**before.seconds, **monitor.seconds},
            "notes": (*(note for note in before.notes if not note.startswith(_RELOADED)), *notes),
        }
    )
