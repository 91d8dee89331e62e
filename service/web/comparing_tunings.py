"""Curves of several fine-tunings in one picture, each with its number at its end."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.jobs.tuned_runs import RunPoint, TunedRun
from service.web.charts import WIDE, Axes, Tick, nice_ticks

MAX_SHOWN = 6
"""Runs in the picture; more cannot be told apart."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 34, 14, 34
_BADGE = 20
"""Room that a number needs, so that two that end at the same place stay legible."""


@dataclass(frozen=True)
class RunCurve:
    """One run in the picture."""

    number: int
    points: str
    """As a polyline takes them."""
    x: float
    y: float
    """Where its last point is."""
    badge_y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class RunsChart(Axes):
    """Runs over steps, ready to be drawn."""

    curves: tuple[RunCurve, ...]


def runs_chart(runs: Sequence[TunedRun], *, extent: tuple[int, int] = WIDE) -> RunsChart | None:
    """Return the metric of runs over steps, as far as they have the metric of the first; None without a number."""
    shown = [
        (number, run) for number, run in enumerate(runs, start=1) if run.validation and run.metric == runs[0].metric
    ]
    if not shown:
        return None
    width, height = extent
    values = [point.value for _, run in shown for point in run.validation]
    levels = nice_ticks(min(values), max(values))
    steps = nice_ticks(0, max(1, *(point.step for _, run in shown for point in run.validation)), count=4)

    def x_of(step: float) -> float:
        return round(_LEFT + (width - _LEFT - _RIGHT) * step / steps[-1], 2)

    def y_of(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return round(height - _BOTTOM - (height - _TOP - _BOTTOM) * share, 2)

    ends = _apart({number: y_of(run.validation[-1].value) for number, run in shown})
    return RunsChart(
        curves=tuple(
            RunCurve(
                number=number,
                points=_polyline([(x_of(point.step), y_of(point.value)) for point in run.validation]),
                x=x_of(run.validation[-1].step),
                y=y_of(run.validation[-1].value),
                badge_y=ends[number],
                label=f"{number}: {run.start}, {_told(run.validation[-1], run.metric)}",
            )
            for number, run in shown
        ),
        x_ticks=tuple(Tick(y=x_of(step), label=f"{step:g}") for step in steps),
        y_ticks=tuple(Tick(y=y_of(level), label=f"{level:.4g}") for level in levels),
        width=width,
        height=height,
        left=_LEFT,
        right=width - _RIGHT,
        top=_TOP,
        bottom=height - _BOTTOM,
    )


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _told(point: RunPoint, metric: str) -> str:
    return f"{metric} {point.value:.4f} after {point.step} steps"


def _apart(places: dict[int, float]) -> dict[int, float]:
    """Return the heights of numbers, pushed down as far as they would cover one above."""
    found: dict[int, float] = {}
    last = float("-inf")
    for number, place in sorted(places.items(), key=lambda item: item[1]):
        last = max(place, last + _BADGE)
        found[number] = round(last, 2)
    return found
