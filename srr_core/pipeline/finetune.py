"""The use case of fine-tuning: every step of a run, in order."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from srr_core.checkpoint.writer import write_json
from srr_core.errors import NumericalError, StorageError
from srr_core.pipeline.compress import compress
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.tuned_result import (
    build_report,
    describe_start,
    evaluate_result,
    verify_result,
    write_kept_checkpoints,
    write_result,
)
from srr_core.pipeline.tuning_cells import BaseFolder, OnCheckpoint, TuningCell, prepare_base
from srr_core.pipeline.tuning_plan import TuningPlan, plan_tuning
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe.stages import Stage
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, TuningSpec
from srr_core.recipe.tuning_tasks import metric_of
from srr_core.tuners.folders import appearing
from srr_core.tuners.grid import choose
from srr_core.tuners.kept_start import write_at_checkpoint
from srr_core.tuners.report import REPORT_NAME, CellReport, TuningReport
from srr_core.types import OnProgress, Progress, ShouldStop

BeforePublish = Callable[[Path, TuningReport], None]
OnPlan = Callable[[TuningPlan], None]
_INNER_STAGES = frozenset({Stage.CALIBRATE, Stage.COMPRESS})
"""Of a compression inside a fine-tuning, what its caller is told; the rest is short."""
_COMPRESSED = "compressed"
_AT_CHECKPOINT = "at-checkpoint"


def finetune(
    source: Path,
    data: Path,
    spec: TuningSpec,
    destination: Path,
    *,
    validation_data: Path | None = None,
    calibration_text: Path | None = None,
    neutral_text: Path | None = None,
    model_id: str | None = None,
    revision: str | None = None,
    artifact_id: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    on_plan: OnPlan = lambda _: None,
    on_checkpoint: OnCheckpoint = lambda _: None,
    before_publish: BeforePublish | None = None,
) -> TuningReport:
    """Fine-tune a model from one of the starts into a new folder, and report what it learned.

    The stages are validate, compress (where the start needs it; with calibrate), train, evaluate and verify. Work is
    kept in `<destination>.partial`: compressed layers, the base, and checkpoints of every training. The same call after
    an interruption goes on from there and, on the same machine, ends with the same bits. The destination appears
    complete, by one rename, or not at all; the base in it is the one that was trained on, bit for bit.

    Args:
        source: Folder of a 16-bit checkpoint with a tokenizer, or of an artifact of ours. Not modified.
        data: Rows to learn from: JSON lines, CSV, TSV, Parquet or plain text.
        destination: Folder that does not exist yet.
        validation_data: Rows to judge by; by default a share of the others.
        calibration_text: UTF-8 text, where something is compressed.
        neutral_text: UTF-8 text on which it is measured how far a language model has moved; None skips it.
        model_id: What the source is called in the report and in seeds; the folder's name by default.
        revision: Commit sha of the source, if it has one.
        artifact_id: Repository the result will be published as, if any.
        device: auto, cpu or cuda.
        on_progress: Called after every unit of every stage, in this thread; while training with the loss, learning
            rate, gradient norm and tokens per second of the step, and with the scores of evaluations; `cell` and
            `step` say which training of a grid, and how far it is.
        should_stop: Asked between passes; True ends the run after saving what it has.
        on_plan: Given what was checked, the report on the data in it, before anything is computed.
        on_checkpoint: Called whenever a checkpoint has become durable.
        before_publish: Given the complete folder and the report before the destination appears, to add files.
    Raises:
        SrrError: any leaf of the tree in `srr_core.errors`; nothing is left at the destination.
    """
    monitor = RunMonitor(on_progress, should_stop)
    with monitor.stage(Stage.VALIDATE, 1):
        plan = plan_tuning(
            source,
            data,
            spec,
            destination,
            validation_data=validation_data,
            calibration_text=calibration_text,
            neutral_text=neutral_text,
            model_id=model_id,
            revision=revision,
            artifact_id=artifact_id,
            device=device,
        )
        monitor.advance(Stage.VALIDATE)
    on_plan(plan)
    with closing(WorkFolder(destination, plan.fingerprint())) as work:
        report = _run(plan, work, monitor, on_progress, should_stop, on_checkpoint)
        if before_publish is not None:
            try:
                before_publish(work.artifact, report)
            except OSError as error:
                raise StorageError(f"{work.artifact} could not be completed: {error.strerror or error}") from error
        work.publish()
    return report


def _run(
    plan: TuningPlan,
    work: WorkFolder,
    monitor: RunMonitor,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
    on_checkpoint: OnCheckpoint,
) -> TuningReport:
    model = _compressed(plan, work, monitor, on_progress, should_stop)
    base = prepare_base(plan, model, work.path)
    cells = _train(plan, base, work, monitor, on_progress, on_checkpoint)
    _, is_higher_better = metric_of(plan.dataset.task)
    chosen = choose(cells, is_higher_better=is_higher_better)
    cell = TuningCell(plan, base, work.path, cells.index(chosen), check=monitor.check)
    assert chosen.best_step is not None  # noqa: S101  # what is chosen has a score
    checkpoint = cell.checkpoint(chosen.best_step)
    with monitor.stage(Stage.EVALUATE, 2):
        neutral = cell.drift(checkpoint)
        monitor.advance(Stage.EVALUATE)
        write_result(plan, base, cell, checkpoint, work)
        kept = write_kept_checkpoints(plan, base, cell, work)
        scores = evaluate_result(plan, work.artifact)
        monitor.advance(Stage.EVALUATE)
    with monitor.stage(Stage.VERIFY, 1):
        notes = verify_result(plan, work.artifact)
        monitor.advance(Stage.VERIFY)
    report = build_report(
        plan,
        describe_start(plan, base, cell),
        cells,
        chosen,
        scores=scores,
        neutral=neutral,
        seconds=monitor.seconds,
        kept=kept,
        notes=notes,
    )
    write_json(work.artifact / REPORT_NAME, report.model_dump(mode="json"))
    return report


def _compressed(
    plan: TuningPlan,
    work: WorkFolder,
    monitor: RunMonitor,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> Path:
    """Return the folder the start is made of: the source, one of its checkpoints, or what a recipe makes of it."""
    start = plan.spec.start
    if isinstance(start, ArtifactStart) and start.checkpoint is not None:
        folder = work.path / _AT_CHECKPOINT
        if not folder.exists():
            with appearing(folder) as partial:
                write_at_checkpoint(plan.source, start.checkpoint, partial)
        return folder
    if not isinstance(start, RecipeStart):
        return plan.source
    folder = work.path / _COMPRESSED
    if folder.exists():
        return folder

    def tell(step: Progress) -> None:
        if on_progress is not None and step.stage in _INNER_STAGES:
            on_progress(step)

    assert plan.calibration_text is not None  # noqa: S101  # the plan refuses a start without it
    with monitor.timed(Stage.COMPRESS):
        compress(
            plan.source,
            start.recipe.model_copy(update={"evaluation": None}),
            folder,
            calibration_text=plan.calibration_text,
            model_id=plan.model_id,
            revision=plan.revision,
            artifact_id=plan.artifact_id,
            device=plan.device.type,
            on_progress=tell,
            should_stop=should_stop,
        )
    return folder


def _train(
    plan: TuningPlan,
    base: BaseFolder,
    work: WorkFolder,
    monitor: RunMonitor,
    on_progress: OnProgress | None,
    on_checkpoint: OnCheckpoint,
) -> list[CellReport]:
    pairs = plan.spec.cells()
    steps = plan.dataset.report.steps
    cells = []

    def teller(number: int) -> Callable[[int, dict[str, float]], None]:
        def tell(step: int, metrics: dict[str, float]) -> None:
            if on_progress is not None:
                told = {**metrics, "cell": float(number), "step": float(step)}
                on_progress(Progress(Stage.TRAIN, number * steps + step, len(pairs) * steps, metrics=told))

        return tell

    with monitor.timed(Stage.TRAIN):
        for number in range(len(pairs)):
            cell = TuningCell(
                plan,
                base,
                work.path,
                number,
                check=monitor.check,
                on_metrics=teller(number),
                on_checkpoint=on_checkpoint,
            )
            try:
                cells.append(cell.run())
            except NumericalError:
                if len(pairs) == 1:
                    raise
                cells.append(cell.diverged())
    return cells
