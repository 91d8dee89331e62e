"""What the pages show of a training: how its loss falls, how fast it is, which checkpoints there are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.jobs.schema import JobEvent
from service.jobs.tuned import chosen_cell
from service.web.curves import CurveChart, curve_chart
from srr_core.tuners.data_report import Preview
from srr_core.tuners.report import TuningReport

_VALIDATION_LOSS = "validation_loss"
_SHOWN_CHECKPOINTS = 20


@dataclass(frozen=True)
class CheckpointView:
    """A checkpoint that is durable."""

    step: int
    num_bytes: int
    scores: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True)
class TrainingView:
    """The training of a grid that runs now, or ran last."""

    step: int
    steps: int
    number: int
    """Which training of the grid, from 1."""
    total: int
    latest: Mapping[str, float]
    """Of its last step."""
    loss: CurveChart | None
    learning_rate: CurveChart | None
    checkpoints: tuple[CheckpointView, ...]
    """The latest, newest first."""


@dataclass(frozen=True)
class TuningCharts:
    """The curves of the training whose result was published."""

    loss: CurveChart | None
    learning_rate: CurveChart | None


def training_view(events: Sequence[JobEvent]) -> TrainingView | None:
    """Return what the events of a fine-tuning say about its training; None before its first step.

    Steps that a later attempt did again are shown as they were last.
    """
    rows = list(_rows(events))
    if not rows:
        return None
    cell = int(rows[-1].get("cell", 0))
    own = [row for row in rows if int(row.get("cell", 0)) == cell]
    steps = {int(row["step"]): row for row in own if "loss" in row}
    scored = {int(row["step"]): row for row in own if _VALIDATION_LOSS in row}
    plan = next((event.data for event in reversed(events) if event.kind == "data"), {})
    last = max(steps, default=0)
    total = int(plan.get("report", {}).get("steps", last))
    losses, validated = _points(steps, "loss"), _points(scored, _VALIDATION_LOSS)
    return TrainingView(
        step=last,
        steps=max(total, last),
        number=cell + 1,
        total=max(len(plan.get("cells", ())), cell + 1),
        latest=steps.get(last, {}),
        loss=curve_chart([losses, validated], last_step=total),
        learning_rate=curve_chart([_points(steps, "learning_rate")], last_step=total),
        checkpoints=tuple(_checkpoints(events, cell)),
    )


def tuning_charts(report: TuningReport) -> TuningCharts:
    """Return the curves of a finished report."""
    cell = chosen_cell(report)
    return TuningCharts(
        loss=curve_chart(
            [
                [(row.step, row.loss) for row in cell.rows],
                [(row.step, row.scores["loss"]) for row in cell.evaluations if "loss" in row.scores],
            ],
            last_step=cell.steps,
        ),
        learning_rate=curve_chart([[(row.step, row.learning_rate) for row in cell.rows]], last_step=cell.steps),
    )


def data_previews(events: Iterable[JobEvent]) -> tuple[Preview, ...]:
    """Return the examples the worker has rendered, the parts that are learned marked."""
    told = [event.data for event in events if event.kind == "data"]
    found = told[-1].get("report", {}).get("previews", ()) if told else ()
    return tuple(Preview.model_validate(preview, extra="ignore") for preview in found)


def _rows(events: Iterable[JobEvent]) -> Iterator[Mapping[str, Any]]:
    for event in events:
        if event.kind == "metrics":
            yield from (row for row in event.data.get("rows", ()) if "step" in row)


def _points(rows: Mapping[int, Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(step, float(row[name])) for step, row in sorted(rows.items()) if name in row]


def _checkpoints(events: Sequence[JobEvent], cell: int) -> Iterator[CheckpointView]:
    told = {
        int(event.data["step"]): event.data
        for event in events
        if event.kind == "checkpoint" and event.data.get("cell", 0) == cell and "step" in event.data
    }
    best = max((step for step, data in told.items() if data.get("is_best")), default=None)
    for step in sorted(told, reverse=True)[:_SHOWN_CHECKPOINTS]:
        data = told[step]
        yield CheckpointView(
            step=step,
            num_bytes=int(data.get("num_bytes", 0)),
            scores=dict(data.get("scores", {})),
            is_best=step == best,
        )
