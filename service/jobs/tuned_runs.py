"""Fine-tunings beside each other: what each started from, how its validation went, and where it has come to."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.errors import InvalidJobError
from service.jobs.ports import JobReading
from service.jobs.reports import job_report
from service.jobs.schema import Job, JobState
from service.jobs.trainings import CellSeries, SeriesPoint, TrainingRecord
from service.jobs.tuned import chosen_cell, start_words
from service.jobs.work import FinetuneWork
from service.platform.errors import UnreadableError
from srr_core.recipe.tuning import RecipeStart, TuningSpec
from srr_core.recipe.tuning_tasks import metric_of
from srr_core.tuners.report import TuningReport

VALIDATION = "validation_"
"""In front of the name of a score, in what a running training tells."""
MAX_POINTS = 300
RecordOf = Callable[[str], TrainingRecord]
"""What the trainings of a job have told so far, by its id."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunPoint(_Frozen):
    """A number after some steps."""

    step: int
    value: float


class TunedRun(_Frozen):
    """One fine-tuning: of a grid, the training that was published, or while it runs the one that is best so far."""

    job_id: str
    state: JobState
    model_id: str
    start: str = Field(description="Where it began, in words.")
    task: str
    bits: float | None = Field(description="Bits per weight of Q; null for 16 bits, and where the artifact says it.")
    rank: int
    learning_rate: float | None = Field(description="Null before the first step of one that is chosen by the start.")
    seed: int | None
    steps: int = Field(description="Done.")
    planned: int = Field(description="0 before the data was checked.")
    metric: str
    is_higher_better: bool
    before: float | None = Field(description="The metric at the start, on the validation rows.")
    best: float | None = Field(description="The best of the evaluations after it.")
    best_step: int | None
    deviation: float | None = Field(description="Standard deviation of the best over the seeds of this rate.")
    seeds: int
    drift: float | None = Field(description="Nats per token away from the start on a neutral text, where measured.")
    data_sha256: str | None = Field(description="Of the rows; runs on other rows cannot be compared.")
    validation: tuple[RunPoint, ...] = Field(description="The metric over steps.")
    training: tuple[RunPoint, ...] = Field(description="The training loss over steps, thinned.")


def tuned_runs(jobs: Sequence[Job], store: JobReading, record_of: RecordOf) -> list[TunedRun]:
    """Return fine-tunings as they stand, in the order given.

    Raises:
        InvalidJobError: one of them is no fine-tuning.
    """
    return [_run(job, store, record_of) for job in jobs]


def _run(job: Job, store: JobReading, record_of: RecordOf) -> TunedRun:
    work = job.work
    if not isinstance(work, FinetuneWork):
        raise InvalidJobError(f"job {job.id} is not a fine-tuning; these alone are compared here")
    report = _report(job, store)
    if report is None:
        return _of_record(job, work, record_of(job.id))
    return _of_report(job, report)


def _report(job: Job, store: JobReading) -> TuningReport | None:
    if not job.has_report:
        return None
    try:
        report = job_report(job, store.report(job.id))
    except UnreadableError:
        return None  # what it told while it ran is still there
    return report if isinstance(report, TuningReport) else None


def _of_report(job: Job, report: TuningReport) -> TunedRun:
    cell = chosen_cell(report)
    rate = next(rate for rate in report.rates if rate.learning_rate == cell.learning_rate)
    scored = [(row.step, row.scores[report.metric]) for row in cell.evaluations if report.metric in row.scores]
    return TunedRun(
        **_common(job, report.spec),
        rank=report.start.rank,
        learning_rate=cell.learning_rate,
        seed=cell.seed,
        steps=cell.steps,
        planned=report.data.steps,
        before=report.start_scores.get(report.metric),
        best=cell.best_score,
        best_step=cell.best_step,
        deviation=rate.deviation,
        seeds=rate.seeds,
        drift=report.neutral.divergence if report.neutral is not None else None,
        data_sha256=report.data.sha256,
        validation=_points(scored),
        training=_thinned([(row.step, row.loss) for row in cell.rows]),
    )


def _of_record(job: Job, work: FinetuneWork, record: TrainingRecord) -> TunedRun:
    metric, is_higher_better = metric_of(work.tuning.task)
    cells = {cell.cell: (cell, _scored(cell.validation, metric)) for cell in record.cells}
    found = {number: _best(scored, is_higher_better=is_higher_better) for number, (_, scored) in cells.items()}
    known = {number: best for number, best in found.items() if best is not None}
    choose = max if is_higher_better else min
    number = choose(known, key=lambda one: known[one][1]) if known else record.current
    cell, scored = cells.get(number, (None, []))
    best = known.get(number)
    return TunedRun(
        **_common(job, work.tuning),
        rank=_rank(work.tuning),
        learning_rate=cell.learning_rate if cell is not None else _stated_rate(work.tuning),
        seed=cell.seed if cell is not None else None,
        steps=_last_step(cell),
        planned=record.steps,
        before=next((value for step, value in scored if step == 0), None),
        best=best[1] if best is not None else None,
        best_step=best[0] if best is not None else None,
        deviation=None,
        seeds=max(len(work.tuning.grid.seeds), 1),
        drift=None,
        data_sha256=record.data_sha256,
        validation=_points(scored),
        training=_points(_scored(cell.training, "loss", prefix="")) if cell is not None else (),
    )


def _common(job: Job, spec: TuningSpec) -> dict[str, Any]:
    metric, is_higher_better = metric_of(spec.task)
    start = spec.start
    return {
        "job_id": job.id,
        "state": job.state,
        "model_id": job.work.source.model_id,
        "start": start_words(spec),
        "task": spec.task.kind,
        "bits": start.recipe.quantizer.bits_per_weight if isinstance(start, RecipeStart) else None,
        "metric": metric,
        "is_higher_better": is_higher_better,
    }


def _rank(spec: TuningSpec) -> int:
    start = spec.start
    return start.recipe.rank if isinstance(start, RecipeStart) and start.recipe.rank else spec.rank


def _stated_rate(spec: TuningSpec) -> float | None:
    rate = spec.optimizer.learning_rate
    return None if rate == "auto" else rate


def _scored(series: Sequence[SeriesPoint], name: str, *, prefix: str = VALIDATION) -> list[tuple[int, float]]:
    return [(point.step, point.values[f"{prefix}{name}"]) for point in series if f"{prefix}{name}" in point.values]


def _best(scored: Sequence[tuple[int, float]], *, is_higher_better: bool) -> tuple[int, float] | None:
    later = [row for row in scored if row[0] > 0]
    return (max if is_higher_better else min)(later, key=lambda row: row[1], default=None)


def _last_step(cell: CellSeries | None) -> int:
    points = (*cell.training, *cell.validation) if cell is not None else ()
    return max((point.step for point in points), default=0)


def _points(rows: Sequence[tuple[int, float]]) -> tuple[RunPoint, ...]:
    return tuple(RunPoint(step=step, value=value) for step, value in rows)


def _thinned(rows: Sequence[tuple[int, float]]) -> tuple[RunPoint, ...]:
    """Return at most `MAX_POINTS`: the means of neighbours, each at the last of their steps."""
    size = -(-len(rows) // MAX_POINTS) or 1
    groups = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    return _points([(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups])
