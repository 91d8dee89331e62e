"""What a budget can buy, from shapes alone: a target out of reach is refused before a weight is read."""

import math
from collections import Counter
from collections.abc import Iterable

from srr_core.errors import RecipeError
from srr_core.recipe.budgeted import candidates
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.cost import Shape
from srr_core.recipe.recipe import Recipe


def require_reachable(recipe: Recipe, shapes: Iterable[Shape], *, source_bytes: int, kept_bytes: int) -> None:
    """Refuse a target of bits or bytes that no choice of settings meets.

    What files add to codes, scales and factors (rows that are padded) is left out, so a target just above the smallest
    choices may still turn out too small once they are written.

    Args:
        shapes: (out, in) of every weight that is compressed.
        source_bytes: Of these weights in the source.
        kept_bytes: Of all other tensors.
    Raises:
        RecipeError: the message has the range.
    """
    spec, sizes = recipe.budget, Counter(shapes)
    weights = sum(count * math.prod(shape) for shape, count in sizes.items())
    budget = None if spec is None else spec.bits(weights=weights, kept_bytes=kept_bytes)
    if spec is None or budget is None or not weights:
        return
    smallest, largest = _range(recipe, sizes)
    in_all = " to ".join(size_words(round(end / 8) + kept_bytes) for end in (smallest, largest))
    reach = (
        f"these choices reach {smallest / weights:.2f} to {largest / weights:.2f} bits per weight, {in_all} of weight "
        "files in all"
    )
    if not budget:
        raise RecipeError(
            f"the target of {spec.words} is used up by the {size_words(kept_bytes)} of tensors that are not "
            f"compressed, such as embeddings; {reach}"
        )
    if budget < smallest:
        raise RecipeError(f"the target of {spec.words} is below the smallest choices; {reach}")
    if budget >= 8 * source_bytes:
        raise RecipeError(f"the target of {spec.words} leaves the weights as large as they are in the source; {reach}")


def _range(recipe: Recipe, sizes: Counter[Shape]) -> tuple[float, float]:
    """Return the bits of the compressed weights at the smallest and at the largest choice.

    A setting that is smaller in one layer is so in every other, so either end has one setting everywhere.
    """
    ends = [
        sum(count * math.prod(shape) * choice.bits_per_weight(*shape) for shape, count in sizes.items())
        for _, choice in candidates(recipe)
    ]
    return min(ends), max(ends)
