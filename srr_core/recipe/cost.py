"""What a run would take, from shapes alone: no weight is read and no torch is needed, so the service may ask."""

from collections import Counter
from collections.abc import Iterable

from srr_core.recipe.budgeted import candidates
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.quantizers import LearnedSpec
from srr_core.recipe.rank_selectors import FixedSpec
from srr_core.recipe.recipe import Recipe
from srr_core.recipe.scalings import AutocorrelationSpec

BASE_MEMORY_BYTES = 10**9
"""The interpreter, torch and transformers."""
BLOCK_COPIES = 3
"""Float32 copies of the largest block a run may hold at once."""
LEARNING_COPIES = 5
"""More of them while a block learns: gradients, offsets, what is rounded, what it is rounded to, and one in work."""
SLOW_PRODUCT_SHARE = 0.5
"""Heuristic: thin products, QR and casts reach about half the rate of a large square product."""

BYTES_PER_TOKEN = 4
"""Heuristic: tokenizers make one token of three to five bytes of prose."""

LITTLE = 0.5
"""Part of the model's bytes; where less is compressed the report says so."""
SMALL_GAIN = 0.10
"""Of the source's bytes; below it a result says that it is hardly smaller."""

Shape = tuple[int, int]


def fitted(recipe: Recipe, *, text_bytes: int, longest_window: int | None) -> Recipe:
    """Return a recipe that asks for no more calibration than there is, as a run would shorten it.

    Args:
        text_bytes: Size of the calibration text.
        longest_window: Tokens the model takes at once, if it has a limit.
    """
    spec = recipe.calibration
    length = min(spec.sequence_length, longest_window or spec.sequence_length)
    count = min(spec.num_sequences, max(text_bytes // BYTES_PER_TOKEN // length, 1))
    windows = spec.model_copy(update={"num_sequences": count, "sequence_length": length})
    return recipe.model_copy(update={"calibration": windows})


def input_widths(layers: Iterable[tuple[str, int]]) -> tuple[int, ...]:
    """Return the width of every input that the layers of one block are taken to have, narrow ones first.

    Layers of one module that are as wide share an input. Where all of several are as wide, one is taken to read what
    the others made, as the output projection of an attention does; where it does not, one input is counted too many.

    Args:
        layers: Names and widths, in any order.
    """
    modules: dict[str, list[int]] = {}
    for name, width in layers:
        modules.setdefault(name.rpartition(".")[0], []).append(width)
    return tuple(sorted(width for widths in modules.values() for width in _distinct(widths)))


def _distinct(widths: list[int]) -> Iterable[int]:
    return widths[:2] if len(set(widths)) == 1 else set(widths)


def memory_bytes(recipe: Recipe, *, largest_block: int, input_widths: Iterable[int], hidden_size: int) -> int:
    """Return the estimated peak of a run, in the memory where layers are computed.

    Args:
        largest_block: Values in the largest of the repeated blocks.
        input_widths: Width of every distinct input of a block's layers; each has a square of statistics.
        hidden_size: Width of what goes from block to block.
    """
    statistics = sum(8 * width * width for width in input_widths)
    hidden = 4 * hidden_size * _tokens(recipe)
    learns = isinstance(recipe.quantizer, LearnedSpec)
    streams = 1 + (learns or recipe.calibration.inputs == "compressed")
    copies = BLOCK_COPIES + LEARNING_COPIES * learns
    return BASE_MEMORY_BYTES + copies * 4 * largest_block + statistics + streams * hidden


def operations(recipe: Recipe, shapes: Iterable[Shape]) -> float:
    """Return the estimated floating-point operations of search, calibration, learning and decomposition.

    Evaluation is not in them.
    """
    return sum((count * _layer_operations(shape, recipe) for shape, count in Counter(shapes).items()), 0.0)


def seconds(total_operations: float, operations_per_second: float) -> float:
    """Return how long so many operations take at the rate of a large square product."""
    return total_operations / (operations_per_second * SLOW_PRODUCT_SHARE)


def size_note(*, source_bytes: int, result_bytes: int, kept_bytes: int) -> str | None:
    """Return what must be said of a result that is hardly smaller than its source, or larger; else None.

    Args:
        kept_bytes: Of tensors that stay as they are.
    """
    if source_bytes == 0 or result_bytes < source_bytes * (1 - SMALL_GAIN):
        return None
    sizes = f"{size_words(result_bytes)} against {size_words(source_bytes)}"
    gain = 100 * (1 - result_bytes / source_bytes)
    found = f"is larger than the source ({sizes})" if gain <= 0 else f"saves {gain:.1f} % only ({sizes})"
    if kept_bytes > source_bytes / 2:
        return (
            f"the result {found}: {100 * kept_bytes / source_bytes:.0f} % of the source lies in embeddings and other "
            "tensors that stay as they are"
        )
    return f"the result {found}: the rank is too large for layers this narrow, or the bits too many"


def share_note(share: float) -> str | None:
    """Return what must be said of a run that leaves most of the model's bytes as they are; else None."""
    if share >= LITTLE:
        return None
    return (
        f"{100 * share:.0f} % of the model's bytes are compressed; the others, most of them embeddings and the head, "
        "keep their source precision, so the result is not much smaller than the source"
    )


def _tokens(recipe: Recipe) -> int:
    return recipe.calibration.num_sequences * recipe.calibration.sequence_length


def _layer_operations(shape: Shape, recipe: Recipe) -> float:
    rows, columns = shape
    statistics = 2.0 * _tokens(recipe) * rows * columns + columns**3 / 3 + 1.0 * _tokens(recipe) * columns**2
    found = statistics + _learning(recipe) * rows * columns + _decomposition(shape, recipe)
    spec = recipe.budget
    if spec is not None:  # a pass there and back for the sensitivities, and every candidate once
        passes = 6.0 * spec.num_sequences * spec.sequence_length * rows * columns
        found += statistics + passes + sum(_decomposition(shape, one) for _, one in candidates(recipe))
    return found


def _decomposition(shape: Shape, recipe: Recipe) -> float:
    rows, columns = shape
    product = 1.0 * rows * columns**2
    width = max(int(recipe.sketch.oversampling * recipe.rank), recipe.rank + 16) if recipe.rank else 0
    sketch = 2.0 * (2 * recipe.power_iterations + 1) * rows * columns * width
    selector = recipe.rank_selector
    preserves = recipe.rank > 0 and not (isinstance(selector, FixedSpec) and selector.preserved(recipe.rank) == 0)
    quantize = 2.0 * rows * columns**2 if recipe.quantizer.has_feedback else 10.0 * rows * columns
    scaled = product if isinstance(recipe.scaling, AutocorrelationSpec) else 2 * product
    return scaled + (product + 2 * sketch) * preserves + recipe.iterations * (scaled + sketch + quantize)


def _learning(recipe: Recipe) -> float:
    """Return the operations per weight of learning a block: steps there and back, and three passes over all windows."""
    spec = recipe.quantizer
    if not isinstance(spec, LearnedSpec):
        return 0.0
    windows = min(spec.batch_size, recipe.calibration.num_sequences)
    return 6.0 * spec.iterations * windows * recipe.calibration.sequence_length + 6.0 * _tokens(recipe)
