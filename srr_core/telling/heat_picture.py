"""The error of every layer over the depth of the model and its kind of projection, the worst ones named."""

import math
from dataclasses import dataclass

from srr_core.report import LayerReport, Report
from srr_core.telling.pictures import WIDE, Number, Picture, rectangle, text, together

_COLOURS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
"""Steps of cividis, which reads the same with every kind of colour vision: dark is a small error.
Source: Nunez, Anderton, Renslow (2018), doi:10.1371/journal.pone.0199239."""
WORST = 10
_ROW, _TOP, _LEGEND = 22, 30, 46
_LETTER = 7.0
_MAX_CELL = 40.0


@dataclass(frozen=True)
class Cell:
    """The layers of one projection in one block: one, or all experts together."""

    block: int
    projection: str
    layer: LayerReport
    """The one with the largest error."""


def heat_cells(report: Report) -> tuple[Cell, ...]:
    """Return the cells in the order of the report."""
    found: dict[tuple[int, str], Cell] = {}
    for layer in report.layers:
        block, projection = place_of(layer.name)
        before = found.get((block, projection))
        if before is None or layer.output_error > before.layer.output_error:
            found[block, projection] = Cell(block, projection, layer)
    return tuple(found.values())


def place_of(name: str) -> tuple[int, str]:
    """Return the block of a layer and what it is in there: the number of an expert is left out."""
    parts = name.split(".")
    first = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    if first is None:
        return 0, name
    inside = ["*" if part.isdecimal() else part for part in parts[first + 1 :]]
    return int(parts[first]), ".".join(inside)


def worst_layers(report: Report) -> tuple[LayerReport, ...]:
    """Return the layers with the largest errors, the largest first."""
    return tuple(sorted(report.layers, key=lambda layer: (-layer.output_error, layer.name))[:WORST])


def heat_picture(report: Report, extent: tuple[int, int] = WIDE) -> Picture | None:
    """Return the map; None without layers. An edge is drawn around the worst layers, and the alt text names them."""
    cells = heat_cells(report)
    if not cells:
        return None
    projections = list(dict.fromkeys(cell.projection for cell in cells))
    blocks = sorted({cell.block for cell in cells})
    labels = {name: _short(name) for name in projections}
    left = max(len(label) for label in labels.values()) * _LETTER + 8
    cell_width = min((extent[0] - left) / len(blocks), _MAX_CELL)
    errors = [cell.layer.output_error for cell in cells]
    low, high = min(errors), max(errors)
    worst = {layer.name for layer in worst_layers(report)}
    drawing = [text(left, 14, "block, from the first to the last")]
    drawing += [
        text(left - 8, _TOP + row * _ROW + 15, labels[name], anchor="end") for row, name in enumerate(projections)
    ]
    edges = []
    for cell in cells:
        x = round(left + blocks.index(cell.block) * cell_width, 2)
        y = _TOP + projections.index(cell.projection) * _ROW
        colour = _COLOURS[_step(cell.layer.output_error, low, high)]
        hint = f"{cell.layer.name}: output error {cell.layer.output_error:.4f}"
        drawing.append(rectangle(x, y, round(cell_width - 1, 2), _ROW - 1, fill=colour, hint=hint))
        if cell.layer.name in worst:
            edges.append(rectangle(x + 1, y + 1, round(max(cell_width - 3, 1), 2), _ROW - 3, kind="worst"))
    bottom = _TOP + len(projections) * _ROW
    drawing += [*edges, *_scale(left, bottom + 14, low, high)]
    return Picture(
        name="errors",
        title="Output error of each layer, by depth and kind",
        alt=f"Output errors from {low:.4f} to {high:.4f} over {len(blocks)} blocks and {len(projections)} kinds of "
        "layers. The largest: "
        + "; ".join(f"{layer.name} {layer.output_error:.4f}" for layer in worst_layers(report))
        + ".",
        width=extent[0],
        height=bottom + _LEGEND,
        drawing=together(drawing),
        header=("layer", "block", "projection", "output error", "output error of Q alone"),
        rows=tuple(
            (
                layer.name,
                str(place_of(layer.name)[0]),
                place_of(layer.name)[1],
                f"{layer.output_error:.6g}",
                f"{layer.output_error_quantized_only:.6g}",
            )
            for layer in report.layers
        ),
    )


def _step(error: float, low: float, high: float) -> int:
    """Return the colour of an error; steps are factors, because errors spread over powers of ten."""
    if low <= 0 or high <= low:
        share = error / high if high > 0 else 0.0
    else:
        share = math.log(error / low) / math.log(high / low)
    return min(int(share * len(_COLOURS)), len(_COLOURS) - 1)


def _scale(left: Number, y: Number, low: float, high: float) -> list[str]:
    parts = [text(left, y + 12, f"{low:.3g}", anchor="start")]
    x = left + 52
    parts += [rectangle(x + 14 * step, y, 14, 14, fill=colour) for step, colour in enumerate(_COLOURS)]
    end = x + 14 * len(_COLOURS)
    return [*parts, text(end + 8, y + 12, f"{high:.3g}")]


def _short(projection: str) -> str:
    return projection.rpartition(".")[2] if not projection.endswith(("dense", "*")) else projection
