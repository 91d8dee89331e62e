"""What the pages show of a job, worked out here so that the templates only lay it out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.jobs.eta import remaining_seconds
from service.jobs.event_words import STATE_LABELS, event_words
from service.jobs.reports import AnyReport
from service.jobs.schema import TERMINAL_STATES, Job, JobEvent, JobState
from service.jobs.trainings import TrainingRecord
from service.web.charts import Chart, bar_chart
from service.web.formatting import duration
from service.web.result import ResultView
from service.web.training import TrainingView, training_view
from srr_core.recipe.stages import Stage
from srr_core.report import LayerReport, Report
from srr_core.tuners.data_report import Preview

_PART_OF = dict.fromkeys((Stage.SEARCH, Stage.CALIBRATE, Stage.LEARN, Stage.BASELINES, Stage.REPAIR), Stage.COMPRESS)
"""Calibration and compression alternate block by block; a reader sees one stage."""

_ETA_FROM_LAYERS = 3
LOG_LINES = 200


@dataclass(frozen=True)
class StageView:
    """One step of the way."""

    label: str
    status: str
    """done, now, next, or stopped where a job ended before its time."""


@dataclass(frozen=True)
class LogLine:
    """One line of the log."""

    at: datetime
    text: str


@dataclass(frozen=True)
class LayerPoint:
    """What is shown of one finished layer."""

    name: str
    error: float
    preserved_rank: int | None = None


@dataclass(frozen=True)
class LayerCharts:
    """Error and preserved rank over the layers; None where there is nothing to show yet."""

    error: Chart | None
    preserved_rank: Chart | None


@dataclass(frozen=True)
class JobView:
    """A job as its page shows it."""

    job: Job
    state_label: str
    stages: tuple[StageView, ...]
    layers: tuple[LayerPoint, ...]
    total_layers: int | None
    charts: LayerCharts
    log: tuple[LogLine, ...]
    elapsed: str | None
    remaining: str | None
    resumed_layers: int | None
    """How many layers this attempt took over from earlier ones; None when it has told nothing of layers yet."""
    queue_position: int | None
    same_destination: tuple[str, ...] = ()
    """Ids of earlier jobs that publish to the same repository."""
    can_compare: bool = False
    """Whether there is another result of the same model."""
    training: TrainingView | None = None
    """Of a fine-tuning, from its first step on."""
    previews: tuple[Preview, ...] = ()
    """Examples of the rows of a fine-tuning."""
    report: AnyReport | None = None
    """What the page shows of a finished job of a kind whose report has no page of its own."""
    result: ResultView | None = None
    """Of a compression that succeeded."""

    @property
    def is_over(self) -> bool:
        """Whether the page may stop looking for news."""
        return self.job.state in TERMINAL_STATES

    @property
    def can_cancel(self) -> bool:
        """Whether there is something left to stop."""
        return not self.is_over and self.job.state is not JobState.CANCELING

    @property
    def can_retry(self) -> bool:
        """Whether a further attempt is possible."""
        return self.job.state in (JobState.FAILED, JobState.CANCELED)

    @property
    def may_help_to_retry(self) -> bool:
        """Whether a further attempt may end differently although nobody changes anything."""
        return self.job.failure is None or self.job.failure.retryable or self.job.state is JobState.CANCELED


def job_view(
    job: Job,
    events: Sequence[JobEvent],
    *,
    queue_position: int | None = None,
    same_destination: tuple[str, ...] = (),
    can_compare: bool = False,
    training: TrainingRecord | None = None,
    report: AnyReport | None = None,
    result: ResultView | None = None,
    now: datetime | None = None,
) -> JobView:
    """Return what the page of a job shows, from the job and its layer, state and log events."""
    now = now or datetime.now(UTC)
    resumed = resumed_layers(job, events)
    # A worker that found nothing of the earlier attempts does every layer again.
    layers = layer_points(events if resumed != 0 else [event for event in events if event.attempt == job.attempt])
    total = total_layers(events)
    is_resumed = resumed != 0 and has_earlier_layers(job, events)
    left = remaining_after_resume(job, events) if is_resumed else remaining_seconds(job, now)
    return JobView(
        job=job,
        state_label=STATE_LABELS[job.state],
        stages=stage_views(job),
        layers=layers,
        total_layers=total,
        charts=layer_charts(layers, total=total),
        log=tuple(line for line in map(log_line, events) if line is not None)[-LOG_LINES:],
        elapsed=_elapsed(job, now),
        remaining=None if left is None else duration(left),
        resumed_layers=resumed,
        queue_position=queue_position,
        same_destination=same_destination,
        can_compare=can_compare,
        training=None if training is None else training_view(training),
        previews=() if training is None else training.previews,
        report=report,
        result=result,
    )


def stage_views(job: Job) -> tuple[StageView, ...]:
    """Return the steps of a job, each done, current or still to come; of one that ended early, where it stopped."""
    stages = [stage for stage in job.work.stages if stage not in _PART_OF]
    stage = None if job.stage is None else _PART_OF.get(job.stage, job.stage)
    current = -1 if stage is None or stage not in stages else stages.index(stage)
    if job.state is JobState.SUCCEEDED:
        current = len(stages)

    def status(index: int) -> str:
        if index < current:
            return "done"
        if index > current:
            return "next"
        return "stopped" if job.state in TERMINAL_STATES else "now"

    return tuple(StageView(label=stage.capitalize(), status=status(index)) for index, stage in enumerate(stages))


def layer_points(events: Iterable[JobEvent]) -> tuple[LayerPoint, ...]:
    """Return the finished layers as a report lists them; a layer that was done again counts once, as it is now."""
    points: dict[str, LayerPoint] = {}
    for event in events:
        error = event.data.get("output_error")
        if event.kind == "layer" and isinstance(error, int | float):
            name = str(event.data.get("layer", ""))
            rank = event.data.get("preserved_rank")
            points[name] = LayerPoint(
                name=name,
                error=float(error),
                preserved_rank=round(rank) if isinstance(rank, int | float) else None,
            )
    return tuple(sorted(points.values(), key=lambda point: layer_order(point.name)))


def layer_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return what layers are sorted by: block by block, numbers by their value, and by name within a block."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in name.split("."))


def has_earlier_layers(job: Job, events: Iterable[JobEvent]) -> bool:
    """Whether earlier attempts of a job finished layers, so that this one may begin in the middle."""
    return any(event.kind == "layer" and event.attempt < job.attempt for event in events)


def resumed_layers(job: Job, events: Iterable[JobEvent]) -> int | None:
    """Return how many layers were finished when this attempt finished its first one, or None before that."""
    first = next(_layers_of(job, events), None)
    return None if first is None else max(int(first.data["completed"]) - 1, 0)


def remaining_after_resume(job: Job, events: Iterable[JobEvent]) -> float | None:
    """Return the seconds the layers that are left will take at the pace of this attempt, or None when it has none yet.

    The share of the work that is done says nothing here: most of it took no time, because it was done before.
    """
    own = list(_layers_of(job, events))
    if len(own) < _ETA_FROM_LAYERS or job.state in TERMINAL_STATES:
        return None
    seconds = (own[-1].created_at - own[0].created_at).total_seconds()
    left = int(own[-1].data["total"]) - int(own[-1].data["completed"])
    return seconds / (len(own) - 1) * left if left > 0 else None


def _layers_of(job: Job, events: Iterable[JobEvent]) -> Iterator[JobEvent]:
    return (
        event
        for event in events
        if event.kind == "layer" and event.attempt == job.attempt and {"completed", "total"} <= event.data.keys()
    )


def total_layers(events: Iterable[JobEvent]) -> int | None:
    """Return how many layers there will be, as the worker said last."""
    totals = [event.data["total"] for event in events if event.kind == "layer" and "total" in event.data]
    return int(totals[-1]) if totals else None


def log_line(event: JobEvent) -> LogLine | None:
    """Return an event as a line of the log, or None for those that the rest of the page shows."""
    words = event_words(event.kind, event.data)
    return None if words is None else LogLine(at=event.created_at, text=words)


def report_charts(report: Report) -> LayerCharts:
    """Return the charts of a finished report."""
    return layer_charts(
        [
            LayerPoint(name=layer.name, error=layer.output_error, preserved_rank=layer.preserved_rank)
            for layer in sorted_layers(report)
        ]
    )


def sorted_layers(report: Report) -> list[LayerReport]:
    """Return the layers of a report in the order in which the page of a job shows them."""
    return sorted(report.layers, key=lambda layer: layer_order(layer.name))


def layer_charts(layers: Sequence[LayerPoint], *, total: int | None = None) -> LayerCharts:
    """Return both charts; a recipe that preserves nothing anywhere gets no second one."""
    errors = [(f"{layer.name}: output error {layer.error:.4f}", layer.error) for layer in layers]
    ranks = [(f"{layer.name}: k = {layer.preserved_rank}", float(layer.preserved_rank or 0)) for layer in layers]
    return LayerCharts(
        error=bar_chart(errors, total=total),
        preserved_rank=bar_chart(ranks, total=total) if any(rank for _, rank in ranks) else None,
    )


def _elapsed(job: Job, now: datetime) -> str | None:
    if job.started_at is None:
        return None
    return duration(max(((job.finished_at or now) - job.started_at).total_seconds(), 0.0))
