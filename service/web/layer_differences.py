"""What one result does to each layer that another does not: differences of output errors, ready to be drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.web.charts import WIDTH, Bar, Tick, nice_ceiling
from service.web.views import layer_order
from srr_core.report import Report

MAX_SHOWN = 5
"""Results beside the one they are compared with; more charts than that nobody reads."""
HEIGHT = 140
_EDGE = 1
_BAR_SHARE = 0.72
_MAX_BAR = 26.0


@dataclass(frozen=True)
class DifferenceBar(Bar):
    """One layer: below the middle line where the error is smaller."""

    is_better: bool


@dataclass(frozen=True)
class DifferenceChart:
    """Output error of one result less that of the other, over the layers that both have."""

    bars: tuple[DifferenceBar, ...]
    ticks: tuple[Tick, ...]
    middle: float
    better: int
    """Layers whose error is smaller."""
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class LayerRow:
    """One layer in the table: its errors, None where a result does not compress it."""

    name: str
    errors: tuple[float | None, ...]


def layer_rows(reports: Sequence[Report]) -> list[LayerRow]:
    """Return every layer of any of the reports with its error in each, in the order of the model."""
    errors = [_errors(report) for report in reports]
    names = sorted({name for one in errors for name in one}, key=layer_order)
    return [LayerRow(name, tuple(one.get(name) for one in errors)) for name in names]


def difference_charts(base: Report, others: Sequence[Report]) -> list[DifferenceChart | None]:
    """Return a chart for each other report on one scale; None for one without a layer in common."""
    mine = _errors(base)
    differences = [
        {name: error - mine[name] for name, error in _errors(other).items() if name in mine} for other in others
    ]
    largest = max((abs(value) for one in differences for value in one.values()), default=0.0)
    return [_chart(one, nice_ceiling(largest)) if one else None for one in differences]


def _errors(report: Report) -> Mapping[str, float]:
    return {layer.name: layer.output_error for layer in report.layers if math.isfinite(layer.output_error)}


def _chart(differences: Mapping[str, float], top: float) -> DifferenceChart:
    middle = HEIGHT / 2
    slot = WIDTH / len(differences)
    width = min(slot * _BAR_SHARE, _MAX_BAR)

    def length_of(value: float) -> float:
        return (middle - _EDGE) * min(abs(value) / top, 1.0)

    bars = tuple(
        DifferenceBar(
            x=round(slot * index + (slot - width) / 2, 2),
            width=round(width, 2),
            y=round(middle - length_of(value) if value > 0 else middle, 2),
            height=round(length_of(value), 2),
            label=f"{name}: {value:+.4f}",
            is_better=value < 0,
        )
        for index, (name, value) in enumerate(sorted(differences.items(), key=lambda item: layer_order(item[0])))
    )
    ticks = tuple(
        Tick(y=round(middle - (middle - _EDGE) * share, 2), label=f"{share * top:+.3g}" if share else "0")
        for share in (-1, 0, 1)
    )
    return DifferenceChart(bars, ticks, middle, better=sum(bar.is_better for bar in bars))
