"""What the pages show of a training: how its loss falls, how fast it is, which checkpoints there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.jobs.trainings import Checkpoint, SeriesPoint, TrainingRecord
from service.jobs.tuned import chosen_cell
from service.web.curves import CurveChart, curve_chart
from srr_core.tuners.report import TuningReport

_VALIDATION_LOSS = "validation_loss"
_SHOWN_CHECKPOINTS = 20


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
    checkpoints: tuple[Checkpoint, ...]
    """The latest, newest first."""


@dataclass(frozen=True)
class TuningCharts:
    """The curves of the training whose result was published."""

    loss: CurveChart | None
    learning_rate: CurveChart | None


def training_view(record: TrainingRecord) -> TrainingView | None:
    """Return what a fine-tuning has reported about its training; None before its first step or evaluation."""
    series = next((cell for cell in record.cells if cell.cell == record.current), None)
    if series is None or not (series.training or series.validation):
        return None
    last = int(record.latest.get("step", 0))
    total = record.steps or last
    own = [row for row in record.checkpoints if row.cell == record.current]
    return TrainingView(
        step=last,
        steps=max(total, last),
        number=record.current + 1,
        total=record.total,
        latest=record.latest,
        loss=curve_chart(
            [_points(series.training, "loss"), _points(series.validation, _VALIDATION_LOSS)], last_step=total
        ),
        learning_rate=curve_chart([_points(series.training, "learning_rate")], last_step=total),
        checkpoints=tuple(own[: -_SHOWN_CHECKPOINTS - 1 : -1]),
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


def _points(series: Sequence[SeriesPoint], name: str) -> list[tuple[float, float]]:
    return [(point.step, point.values[name]) for point in series if name in point.values]
