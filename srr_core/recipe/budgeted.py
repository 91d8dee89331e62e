"""A target of size or of loss put on a recipe, as the command line and the form have it: one number."""

from collections.abc import Iterator
from typing import Any

from srr_core.errors import RecipeError
from srr_core.recipe.budget import Setting
from srr_core.recipe.presets import override
from srr_core.recipe.recipe import Recipe

BUDGET_RECIPE = "srr-fast"
"""What a target without a recipe stands for."""
BITS = (2, 3, 4)
GROUPS = (32, 64, 128)
"""What a recipe without a budget chooses from, as far as its grid has them."""


def budgeted(
    recipe: Recipe,
    *,
    target_bits: float | None = None,
    target_size_bytes: int | None = None,
    target_kl: float | None = None,
) -> Recipe:
    """Return a recipe that meets a target: with its own choices where it has a budget, else those of its grid.

    A recipe without a budget, but with a rank, may choose between this rank and none.

    Raises:
        RecipeError: not one target, one out of range, or a recipe whose codes lie on no uniform grid.
    """
    targets = {"target_bits": target_bits, "target_size_bytes": target_size_bytes, "target_kl": target_kl}
    if sum(value is not None for value in targets.values()) != 1:
        raise RecipeError("give one target: bits, size or KL")
    if recipe.budget is not None:
        return override(recipe, {f"budget.{name}": value for name, value in targets.items()})
    groups = [size for size in GROUPS if _fits(recipe, size)]
    if not groups:
        raise RecipeError(
            "a target of bits, size or KL needs a recipe whose codes lie on a uniform grid; those of "
            f"{recipe.name} do not"
        )
    choices: dict[str, Any] = {"num_bits": BITS, "group_sizes": groups, "ranks": sorted({0, recipe.rank})}
    return override(recipe, {"budget": {**targets, **choices}})


def candidates(recipe: Recipe) -> Iterator[tuple[Setting, Recipe]]:
    """Yield what a layer may be written as: every setting at every rank of the recipe's budget; nothing without one."""
    spec = recipe.budget
    if spec is None:
        return
    for rank in spec.ranks:
        for setting in spec.settings:
            changes = {"quantizer": recipe.quantizer_of(setting), "rank": rank, "iterations": 1, "budget": None}
            yield setting, recipe.model_copy(update=changes)


def _fits(recipe: Recipe, group_size: int) -> bool:
    try:
        recipe.quantizer_of(Setting(recipe.quantization_bits, group_size))
    except ValueError:
        return False
    return True
