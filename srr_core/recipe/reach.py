"""What a budget can buy, from shapes alone: a target out of reach is refused before a weight is read."""

import math
from collections import Counter
from collections.abc import Iterable

from srr_core.errors import RecipeError
from srr_core.recipe.budgeted import candidates
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.cost import Shape
from srr_core.recipe.recipe import Recipe


def budget_bits(recipe: Recipe, *, weights: int, kept_bytes: int) -> float | None:
    """Return the bits a budget has for all compressed weights together; None without one, or with one of divergence.

    Args:
        weights: That are compressed.
        kept_bytes: Of all other tensors; what they take of a size is not there for the compressed ones.
    """
    spec = recipe.budget
    if spec is not None and spec.target_bits is not None:
        return spec.target_bits * weights
    if spec is not None and spec.target_size_bytes is not None:
        return 8.0 * max(spec.target_size_bytes - kept_bytes, 0)
    return None


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
    sizes = Counter(shapes)
    weights = sum(count * math.prod(shape) for shape, count in sizes.items())
    budget = budget_bits(recipe, weights=weights, kept_bytes=kept_bytes)
    if budget is None or not weights:
        return
    target = recipe.budget.words if recipe.budget is not None else ""
    smallest, largest = _range(recipe, sizes)
    in_all = " to ".join(size_words(round(end / 8) + kept_bytes) for end in (smallest, largest))
    reach = (
        f"these choices reach {smallest / weights:.2f} to {largest / weights:.2f} bits per weight, {in_all} of weight "
        "files in all"
    )
    if not budget:
        raise RecipeError(
            f"the target of {target} is used up by the {size_words(kept_bytes)} of tensors that are not "
            f"compressed, such as embeddings; {reach}"
        )
    if budget < smallest:
        raise RecipeError(f"the target of {target} is below the smallest choices; {reach}")
    if budget >= 8 * source_bytes:
        raise RecipeError(f"the target of {target} leaves the weights as large as they are in the source; {reach}")


def _range(recipe: Recipe, sizes: Counter[Shape]) -> tuple[float, float]:
    """Return the bits of the compressed weights at the smallest and at the largest choice.

    A setting that is smaller in one layer is so in every other, so either end has one setting everywhere.
    """
    ends = [
        sum(count * math.prod(shape) * choice.bits_per_weight(*shape) for shape, count in sizes.items())
        for _, choice in candidates(recipe)
    ]
    return min(ends), max(ends)
