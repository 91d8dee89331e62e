"""What a person should know before trusting a result, told from its report alone."""

import re
from collections.abc import Iterator, Sequence
from statistics import median

from srr_core.recipe.cost import size_note
from srr_core.report import LayerReport, Report
from srr_core.telling.heat_picture import place_of

FAR_WORSE = 3.0
"""Times the median of the layers of its kind in the blocks around it; a heuristic."""
NEIGHBOURS = 2
"""Blocks on each side that a layer is compared with."""
LONG_CORRECTION = 0.95
"""‖L·R‖ / ‖W − Q‖ from which L·R is as long as the whole error; a heuristic."""
MANY_LOW_RANK_BITS = 0.25
"""Share of all bits."""
_NAMED = 3


def cautions(report: Report) -> tuple[str, ...]:
    """Return what speaks against a result, the gravest first; empty where nothing does."""
    found = (
        _calibrated_on(report),
        _outliers(report),
        _scarce(report),
        _long(report),
        _low_rank(report),
        _size(report),
    )
    return tuple(message for messages in found for message in messages)


def outliers(layers: Sequence[LayerReport]) -> tuple[LayerReport, ...]:
    """Return the layers whose error is far above that of their kind in the blocks around them, the worst first."""
    places = {layer.name: place_of(layer.name) for layer in layers}
    kinds: dict[str, list[LayerReport]] = {}
    for layer in layers:
        kinds.setdefault(_kind(places[layer.name][1], layer.name), []).append(layer)
    found: list[tuple[float, LayerReport]] = []
    for members in kinds.values():
        for layer in members:
            block = places[layer.name][0]
            around = [
                other.output_error
                for other in members
                if other is not layer and abs(places[other.name][0] - block) <= NEIGHBOURS
            ]
            usual = median(around) if around else 0.0
            if usual > 0 and layer.output_error > FAR_WORSE * usual:
                found.append((layer.output_error / usual, layer))
    return tuple(layer for _, layer in sorted(found, key=lambda pair: -pair[0]))


def _kind(projection: str, name: str) -> str:
    """Experts of one number are compared with each other, as others may see other tokens."""
    expert = re.search(r"\.experts\.(\d+)\.", name)
    return f"{projection}#{expert[1]}" if expert else projection


def _calibrated_on(report: Report) -> Iterator[str]:
    share = report.evaluation_seen
    if share:
        yield (
            f"{100 * share:.0f} % of the windows it was measured on lie in the text it was calibrated on, so the "
            "numbers flatter it; measure on another text"
        )


def _outliers(report: Report) -> Iterator[str]:
    found = outliers(report.layers)
    if found:
        yield (
            f"{_named(found)} {'has an error' if len(found) == 1 else 'have errors'} more than {FAR_WORSE:g} times "
            "that of the same layers in the blocks around; keep them in more bits, or see whether their weights are "
            "unusual"
        )


def _scarce(report: Report) -> Iterator[str]:
    found = [layer for layer in report.layers if 0 < layer.calibration_tokens < layer.shape[1]]
    if found:
        least = min(found, key=lambda layer: layer.calibration_tokens / layer.shape[1])
        yield (
            f"{len(found)} of {len(report.layers)} layers were calibrated on fewer tokens than they have inputs "
            f"({least.name}: {least.calibration_tokens} for {least.shape[1]}), so their errors on other text may be "
            "larger; calibrate on more text"
        )


def _long(report: Report) -> Iterator[str]:
    # Where directions are preserved they are no part of Q, and L·R is long because it holds them.
    fitted = (layer for layer in report.layers if layer.rank and not layer.preserved_rank)
    found = [layer for layer in fitted if layer.correction_ratio >= LONG_CORRECTION]
    if found:
        yield (
            f"L·R of {_named(found)} is as long as the whole error it corrects; such a rank spends bits that finer "
            "codes would use better"
        )


def _low_rank(report: Report) -> Iterator[str]:
    bits = report.bits_per_weight
    if bits.total and bits.low_rank > MANY_LOW_RANK_BITS * bits.total:
        yield (
            f"L·R takes {100 * bits.low_rank / bits.total:.0f} % of the bits ({bits.low_rank:.2f} of "
            f"{bits.total:.2f}); a smaller rank with more bits for the codes is usually better"
        )


def _size(report: Report) -> Iterator[str]:
    # Runs note it themselves; reports of before do not.
    kept = report.size_bytes.compressed - report.bits_per_weight.stored / 8 * sum(
        layer.shape[0] * layer.shape[1] for layer in report.layers
    )
    note = size_note(
        source_bytes=report.size_bytes.source, result_bytes=report.size_bytes.compressed, kept_bytes=int(max(kept, 0))
    )
    if note is not None:
        yield note


def _named(layers: Sequence[LayerReport]) -> str:
    names = ", ".join(layer.name for layer in layers[:_NAMED])
    return names if len(layers) <= _NAMED else f"{names} and {len(layers) - _NAMED} more"
