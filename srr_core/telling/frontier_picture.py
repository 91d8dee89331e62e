"""The first picture of a report: divergence from the source over the bytes of the whole artifact."""

import math
from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Report
from srr_core.telling.frontier import Earlier, FrontierRow, frontier
from srr_core.telling.pictures import WIDE, Number, Picture, line, rectangle, shown, text, together

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 30, 44
_ROOM = 15
"""Between two labels, so that results that are near each other can both be read."""
_LABEL = 12
_MARK = 6
_WIDE_ENOUGH = 500
_HEADER = ("name", "kind", "bytes", "bits per weight", "divergence", "standard error", "perplexity", "size gap")
_SHAPES = ("square", "triangle")
"""Of baselines, in their order: shape tells them apart without colour."""


def frontier_picture(report: Report, extent: tuple[int, int] = WIDE, earlier: Sequence[Earlier] = ()) -> Picture | None:
    """Return quality over bytes; None where no divergence above nothing was measured.

    The divergence is on a logarithmic scale, because methods differ by factors; bytes begin at nothing.
    Results of earlier runs are small marks, as far as they were measured in the same way.
    """
    rows = frontier(report, earlier)
    placed = [row for row in rows if row.divergence]
    if not placed:
        return None
    width, height = extent
    axes = _Axes(placed, max(row.size_bytes for row in rows), width, height)
    drawing = [*axes.grid(), *_source(rows[-1], axes)]
    labels = _apart([axes.y(row.divergence or 0.0) for row in placed])
    for row, label in zip(placed, labels, strict=True):
        number = sum(one.kind == "baseline" for one in placed[: placed.index(row)])
        drawing += _point(row, number, label, axes)
    return Picture(
        name="frontier",
        title="Divergence from the source over the bytes of all weight files",
        alt=_alt(rows),
        width=width,
        height=height,
        drawing=together(drawing),
        header=_HEADER,
        rows=tuple(_numbers(row) for row in rows),
    )


class _Axes:
    """Where values lie in the picture."""

    def __init__(self, placed: Sequence[FrontierRow], largest: int, width: int, height: int) -> None:
        self.right, self.bottom = width - _RIGHT, height - _BOTTOM
        values = [row.divergence or 0.0 for row in placed]
        spread = [(row.divergence or 0.0) + (row.divergence_error or 0.0) for row in placed]
        self.levels = log_ticks(min(values), max(spread))
        self._low, self._high = math.log10(self.levels[0]), math.log10(self.levels[-1])
        self._largest = largest * 1.04
        self.is_wide = width > _WIDE_ENOUGH

    def x(self, count: Number) -> float:
        return round(_LEFT + (self.right - _LEFT) * count / self._largest, 1)

    def y(self, value: float) -> float:
        share = (math.log10(max(value, self.levels[0])) - self._low) / (self._high - self._low)
        return round(self.bottom - (self.bottom - _TOP) * share, 1)

    def grid(self) -> list[str]:
        """Return lines and labels of both axes."""
        words = "divergence, nats per token (log scale): lower is better" if self.is_wide else "divergence (log scale)"
        parts = [text(_LEFT, 16, words)]
        for level in self.levels:
            y = self.y(level)
            parts += [line(_LEFT, y, self.right, y), text(_LEFT - 8, y + 4, f"{level:g}", anchor="end")]
        count = 4 if self.is_wide else 2
        for number in range(count + 1):
            value = self._largest * number / count / 1.04
            anchor = "start" if number == 0 else "end" if number == count else "middle"
            parts.append(text(self.x(value), self.bottom + 18, size_words(value), anchor=anchor))
        parts.append(text((_LEFT + self.right) / 2, self.bottom + 36, "bytes of all weight files", anchor="middle"))
        return parts


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten that enclose two positive numbers, and are at least two."""
    ticks = [step * 10.0**power for power in range(-12, 4) for step in (1, 2, 5)]
    first = max((tick for tick in ticks if tick <= low), default=ticks[0])
    last = min((tick for tick in ticks if tick >= high), default=ticks[-1])
    found = [float(f"{tick:.3g}") for tick in ticks if first <= tick <= last]
    return found if len(found) > 1 else [found[0] / 2, found[0] * 2]


def _source(row: FrontierRow, axes: _Axes) -> list[str]:
    x = axes.x(row.size_bytes)
    return [
        f'<line class="source" x1="{x:g}" y1="{_TOP}" x2="{x:g}" y2="{axes.bottom:g}"/>',
        text(x - 6, _TOP + 12, "source, no divergence", anchor="end"),
    ]


def _point(row: FrontierRow, number: int, label: float, axes: _Axes) -> list[str]:
    x, y = axes.x(row.size_bytes), axes.y(row.divergence or 0.0)
    hint = f"<title>{escape(_words(row))}</title>"
    parts = []
    if row.divergence_error and row.divergence:
        low, high = axes.y(row.divergence - row.divergence_error), axes.y(row.divergence + row.divergence_error)
        parts.append(line(x, low, x, high, "bar"))
    if row.kind == "artifact":
        parts.append(f'<circle class="ours" cx="{x:g}" cy="{y:g}" r="{_MARK + 1}">{hint}</circle>')
    elif row.kind == "earlier":
        parts.append(f'<circle class="rest" cx="{x:g}" cy="{y:g}" r="{_MARK - 2}">{hint}</circle>')
    elif _SHAPES[number % 2] == "square":
        parts.append(rectangle(x - _MARK, y - _MARK, 2 * _MARK, 2 * _MARK, kind="other", hint=_words(row)))
    else:
        points = f"{x:g},{y - _MARK - 1:g} {x - _MARK - 1:g},{y + _MARK:g} {x + _MARK + 1:g},{y + _MARK:g}"
        parts.append(f'<polygon class="third" points="{points}">{hint}</polygon>')
    named = row.name if not axes.is_wide else f"{row.name}  {row.divergence:.3g}"
    is_late = x > (_LEFT + axes.right) * 0.6
    at, anchor = (x - _LABEL, "end") if is_late else (x + _LABEL, "start")
    parts.append(text(at, label + 4, named, anchor=anchor, kind="strong" if row.kind == "artifact" else ""))
    return parts


def _apart(places: Sequence[float]) -> list[float]:
    """Return heights for labels, in the order of their marks, none nearer to the one above than they are high."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    found = list(places)
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + _ROOM)
    return found


def _words(row: FrontierRow) -> str:
    from_source = "" if row.divergence is None else f", divergence {row.divergence:.3g} nats per token"
    note = f", {row.size_note}" if row.size_note else ""
    return f"{row.name}: {size_words(row.size_bytes)}{from_source}{note}"


def _alt(rows: Sequence[FrontierRow]) -> str:
    return "Divergence from the source over bytes. " + "; ".join(_words(row) for row in rows) + "."


def _numbers(row: FrontierRow) -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        str(row.size_bytes),
        *shown((row.bits_per_weight, row.divergence, row.divergence_error, row.perplexity)),
        f"{row.size_gap:.4f}",
    )
