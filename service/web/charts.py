"""The geometry of the charts. Templates draw it as SVG, so that no script and no inline style is needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 1000
HEIGHT = 200
WIDE, NARROW = (760, 340), (360, 300)
"""Two sizes of one picture: scaled down to a phone, the letters of the wide one could not be read."""
_EDGE = 1
"""Room above and below, so that the outer lines of the grid are not cut."""
_TICKS = 4
_MAX_BAR = 26.0
_BAR_SHARE = 0.72


@dataclass(frozen=True)
class Bar:
    """One layer in the chart, in the units of its view box."""

    x: float
    width: float
    y: float
    height: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A line of the grid."""

    y: float
    """Where it is: on a vertical axis from above, on a horizontal one from the left."""
    label: str


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a picture with numbers at both axes has around it."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int
    height: int
    left: int
    right: int
    """Where the axes end, from the left."""
    top: int
    bottom: int
    """Where the axes end, from above."""


@dataclass(frozen=True)
class Chart:
    """A bar chart ready to be drawn. It holds no text: the picture is stretched to any width, letters are not."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT


def bar_chart(values: Sequence[tuple[str, float]], *, total: int | None = None) -> Chart | None:
    """Return one bar per labelled value in order, or None without any.

    Args:
        values: Not negative; the label is read out and shown on hover, the value is in it already.
        total: Values there will be in the end, so that the bars of a running job do not jump.
    """
    if not values:
        return None
    top = nice_ceiling(max(value for _, value in values))
    slot = WIDTH / max(len(values), total or 0)
    width = min(slot * _BAR_SHARE, _MAX_BAR)
    bottom = HEIGHT - _EDGE

    def height_of(value: float) -> float:
        return (bottom - _EDGE) * min(value / top, 1.0)

    bars = tuple(
        Bar(
            x=round(slot * index + (slot - width) / 2, 2),
            width=round(width, 2),
            y=round(bottom - height_of(value), 2),
            height=round(height_of(value), 2),
            label=label,
        )
        for index, (label, value) in enumerate(values)
    )
    levels = [top * step / _TICKS for step in range(_TICKS + 1)]
    ticks = tuple(Tick(y=round(bottom - height_of(level), 2), label=f"{level:.3g}") for level in levels)
    return Chart(bars=bars, ticks=ticks)


def nice_ceiling(value: float) -> float:
    """Return the smallest of 1, 2, 4, 5, 8 or 10 times a power of ten that is not below a positive value."""
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if value <= step * power * (1 + 1e-9))


def nice_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return round numbers that enclose both ends, about `count` steps apart by 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        span = abs(high) or 1.0
        low, high = low - span / 4, high + span / 4
        span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(share * power for share in (1, 2, 2.5, 5, 10) if share * power >= span / count * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
