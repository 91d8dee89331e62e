"""The geometry of curves over steps. Templates draw it as SVG, stretched to any width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.web.charts import HEIGHT, WIDTH, Tick, nice_ticks

MAX_POINTS = 300
"""Points of one curve; more cannot be told apart at the width of a page."""
_EDGE = 1
Point = tuple[float, float]
"""Step and value."""


@dataclass(frozen=True)
class CurveChart:
    """Curves over the same steps, ready to be drawn. It holds no text: letters are not stretched."""

    curves: tuple[str, ...]
    """The points of each, as a polyline takes them."""
    ticks: tuple[Tick, ...]
    last_step: int
    width: int = WIDTH
    height: int = HEIGHT


def curve_chart(series: Sequence[Sequence[Point]], *, last_step: int) -> CurveChart | None:
    """Return curves over steps from 0 to the last one, or None where no value is finite.

    Args:
        series: Each in order of its steps. Values that are no numbers are left out; a curve of one point is a line.
        last_step: The end of the axis, so that the curves of a running job do not jump.
    """
    shown = [thinned([point for point in curve if math.isfinite(point[1])], MAX_POINTS) for curve in series]
    values = [value for curve in shown for _, value in curve]
    if not values:
        return None
    levels = nice_ticks(min(values), max(values))
    low, high = levels[0], levels[-1]
    end = max(last_step, *(math.ceil(step) for curve in shown for step, _ in curve), 1)
    bottom = HEIGHT - _EDGE

    def y_of(value: float) -> float:
        return round(bottom - (bottom - _EDGE) * (value - low) / (high - low), 2)

    def points(curve: Sequence[Point]) -> str:
        placed = [f"{round(WIDTH * step / end, 2):g},{y_of(value):g}" for step, value in curve]
        return " ".join(placed if len(placed) != 1 else [f"0,{placed[0].split(',')[1]}", placed[0]])

    return CurveChart(
        curves=tuple(points(curve) for curve in shown),
        ticks=tuple(Tick(y=y_of(level), label=f"{level:.3g}") for level in levels),
        last_step=end,
    )


def thinned(curve: Sequence[Point], count: int) -> list[Point]:
    """Return at most `count` points: the means of neighbours, so that a noisy curve keeps its course."""
    if len(curve) <= count:
        return list(curve)
    bounds = [round(len(curve) * part / count) for part in range(count + 1)]
    groups = [curve[begin:end] for begin, end in pairwise(bounds)]
    return [
        (sum(step for step, _ in group) / len(group), sum(value for _, value in group) / len(group)) for group in groups
    ]
