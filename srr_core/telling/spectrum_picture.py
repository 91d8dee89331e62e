"""The leading singular values of one layer: of its scaled weight, and of what quantizing it left for L·R to take."""

import math
from xml.sax.saxutils import escape

from srr_core.report import LayerReport
from srr_core.telling.pictures import WIDE, Picture, line, rectangle, text, together

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 46, 40
_RADIUS = 3


def spectrum_picture(layer: LayerReport, extent: tuple[int, int] = WIDE) -> Picture | None:
    """Return both spectra on a logarithmic scale; None where none was computed, as at rank 0 and for experts."""
    found = layer.spectrum
    if found is None:
        return None
    series = (("weight", found.weight, "ours"), ("error of Q", found.error, "other"))
    positive = [value for _, values, _ in series for value in values if value > 0]
    if not positive:
        return None
    width, height = extent
    count = max(len(found.weight), len(found.error))
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x(position: int | float) -> float:
        return round(_LEFT + (right - _LEFT) * position / max(count, 1), 1)

    def y(value: int | float) -> float:
        return round(bottom - (bottom - _TOP) * (math.log10(value) - low) / (high - low), 1)

    drawing = [text(_LEFT, 16, "share of the length of the scaled weight (log scale)")]
    for number, (name, _, kind) in enumerate(series):
        mark = _LEFT + number * 120
        drawing += [rectangle(mark, 24, 10, 10, kind=kind), text(mark + 16, 33, name)]
    for power in range(low, high + 1):
        drawing += [
            line(_LEFT, y(10.0**power), right, y(10.0**power)),
            text(_LEFT - 8, y(10.0**power) + 4, f"{10.0**power:g}", anchor="end"),
        ]
    for name, values, kind in series:
        drawing += [
            f'<circle class="{kind}" cx="{x(index + 0.5):g}" cy="{y(value):g}" r="{_RADIUS}">'
            f"<title>{escape(f'{name}, {index + 1}: {value:.4g}')}</title></circle>"
            for index, value in enumerate(values)
            if value > 0
        ]
    if 0 < layer.preserved_rank <= count:
        place = x(layer.preserved_rank)
        drawing += [
            line(place, _TOP, place, bottom, "bar"),
            text(place + 4, _TOP + 10, f"k = {layer.preserved_rank}"),
        ]
    drawing += [text(x(0.5), bottom + 18, "1", anchor="middle"), text(right, bottom + 18, str(count), anchor="end")]
    drawing.append(text((_LEFT + right) / 2, bottom + 34, "singular value, the largest first", anchor="middle"))
    return Picture(
        name="spectrum",
        title=f"Leading singular values of {layer.name}",
        alt=_alt(layer, count),
        width=width,
        height=height,
        drawing=together(drawing),
        header=("number", "scaled weight", "scaled error of Q"),
        rows=tuple((str(place + 1), _cell(found.weight, place), _cell(found.error, place)) for place in range(count)),
    )


def _alt(layer: LayerReport, count: int) -> str:
    found = layer.spectrum
    parts = [f"The first {count} singular values of {layer.name} as shares of the length of its scaled weight."]
    if found is not None and found.weight:
        parts.append(f"Of the weight they fall from {found.weight[0]:.3g} to {found.weight[-1]:.3g}.")
    if found is not None and found.error:
        parts.append(f"Of the error of Q they fall from {found.error[0]:.3g} to {found.error[-1]:.3g}.")
    return " ".join(parts)


def _cell(values: tuple[float, ...], place: int) -> str:
    return f"{values[place]:.4g}" if place < len(values) else ""
