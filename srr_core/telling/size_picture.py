"""Where the bytes of an artifact went: codes, scales, L·R, and what stays as the source has it."""

from collections import Counter
from dataclasses import dataclass

from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.quantizer_base import FLOAT16_BITS
from srr_core.report import LayerReport, Report
from srr_core.telling.pictures import WIDE, Number, Picture, rectangle, text, together

_TOP, _HEIGHT, _LEGEND, _ROW = 26, 34, 84, 22
_REASONS = 3
_SMALL = 0.002
"""Share of the files below which padding and headers are not worth a part of their own."""


@dataclass(frozen=True)
class SizePart:
    """Bytes of one kind."""

    name: str
    size_bytes: Number
    kind: str
    """Its class in the drawing."""


def size_parts(report: Report) -> tuple[SizePart, ...]:
    """Return the parts of all weight files, the largest kinds of information first; they add up to the files."""
    weights = sum(layer.shape[0] * layer.shape[1] for layer in report.layers)
    low_rank = sum(_low_rank_bits(layer) for layer in report.layers) / 8
    codes = sum(_code_bits(report, layer) * layer.shape[0] * layer.shape[1] for layer in report.layers) / 8
    formal = sum(layer.bits_per_weight * layer.shape[0] * layer.shape[1] for layer in report.layers) / 8
    scales = max(formal - low_rank - codes, 0.0)
    stored = report.bits_per_weight.stored * weights / 8
    kept = max(report.size_bytes.compressed - stored, 0.0)
    padding = max(report.size_bytes.compressed - kept - codes - scales - low_rank, 0.0)
    parts = (
        SizePart("codes", codes, "ours"),
        SizePart("scales", scales, "other"),
        SizePart("L·R", low_rank, "third"),
        SizePart("padding", padding, "worst"),
        SizePart("kept as in the source", kept, "rest"),
    )
    least = _SMALL * report.size_bytes.compressed
    return tuple(part for part in parts if part.size_bytes > (least if part.name == "padding" else 0))


def size_picture(report: Report, extent: tuple[int, int] = WIDE) -> Picture | None:
    """Return a bar of the parts; None where there are no files."""
    total = report.size_bytes.compressed
    parts = size_parts(report)
    if not total or not parts:
        return None
    width = extent[0]
    drawing, x = [text(0, 14, f"{size_words(total)} of {size_words(report.size_bytes.source)}")], 0.0
    for number, part in enumerate(parts):
        share = part.size_bytes / sum(one.size_bytes for one in parts)
        words = f"{part.name}: {size_words(part.size_bytes)}, {100 * share:.0f} %"
        drawing.append(
            rectangle(round(x, 2), _TOP, round(max(width * share - 1, 0.5), 2), _HEIGHT, kind=part.kind, hint=words)
        )
        y = _LEGEND + number * _ROW
        drawing += [rectangle(0, y - 11, 14, 14, kind=part.kind), text(22, y, words)]
        x += width * share
    reasons = kept_reasons(report)
    return Picture(
        name="size",
        title="Where the bytes of the weight files went",
        alt=f"A bar of {size_words(total)}. "
        + "; ".join(f"{part.name} {100 * part.size_bytes / total:.0f} %" for part in parts)
        + ". "
        + (f"Kept, because: {'; '.join(reasons)}." if reasons else ""),
        width=width,
        height=_LEGEND + len(parts) * _ROW,
        drawing=together(drawing),
        header=("part", "bytes"),
        rows=tuple((part.name, f"{part.size_bytes:.0f}") for part in parts),
    )


def kept_reasons(report: Report) -> tuple[str, ...]:
    """Return why tensors stay as they are, the most frequent reasons first, each with how many have it."""
    counts = Counter(tensor.reason for tensor in report.kept)
    return tuple(f"{reason} ({count})" for reason, count in counts.most_common(_REASONS))


def _low_rank_bits(layer: LayerReport) -> int:
    return FLOAT16_BITS * layer.rank * (layer.shape[0] + layer.shape[1])


def _code_bits(report: Report, layer: LayerReport) -> int:
    """Return the bits of one code of a layer; where a budget chose them, those whose grid has the layer's bits."""
    recipe = report.recipe
    if recipe.budget is None:
        return recipe.quantization_bits
    own = layer.bits_per_weight - _low_rank_bits(layer) / (layer.shape[0] * layer.shape[1])
    nearest = min(recipe.budget.settings, key=lambda setting: abs(recipe.quantizer_of(setting).bits_per_weight - own))
    return nearest.num_bits
