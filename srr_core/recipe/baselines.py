"""What a recipe is compared with: simple methods at the bits it takes, quantized and measured in the same run."""

from collections.abc import Iterator
from typing import Final, get_args

from pydantic import ValidationError

from srr_core.recipe.presets import PRESETS
from srr_core.recipe.quantizers import GPTQSpec, IntegerSpec, MXIntSpec, QuantizerSpec
from srr_core.recipe.recipe import Baseline, Recipe

BASELINES: Final[tuple[Baseline, ...]] = get_args(Baseline)
ZERO_POINTS_BELOW_BITS = 4
"""A heuristic: of four or eight levels a symmetric grid leaves one nearly unused, and GPTQ is to be at its best."""
_GROUPS = (16, 32, 64, 128)
_BITS = range(2, 9)


def baseline_recipes(recipe: Recipe, bits: float) -> tuple[Recipe, ...]:
    """Return the recipes that a recipe is compared with, each at the setting nearest to a number of bits.

    Nothing is compared with itself: a baseline that the recipe is already is left out.

    Args:
        bits: Per compressed weight, scales and L·R counted, as the recipe takes them.
    """
    found = (_nearest(recipe, name, bits) for name in recipe.baselines)
    return tuple(one for one in found if one.quantizer != recipe.quantizer or recipe.rank or recipe.budget)


def _nearest(recipe: Recipe, name: Baseline, bits: float) -> Recipe:
    preset = PRESETS[name]
    # Of settings as near, the one with larger groups: its bits are in the codes.
    quantizer = min(_settings(recipe, name), key=lambda spec: (abs(spec.bits_per_weight - bits), -spec.num_bits))
    return preset.model_copy(
        update={
            "quantizer": quantizer,
            "calibration": recipe.calibration,
            "evaluation": recipe.evaluation,
            "min_share": recipe.min_share,
            "seed": recipe.seed,
        }
    )


def _settings(recipe: Recipe, name: Baseline) -> Iterator[QuantizerSpec]:
    """Yield the quantizers a baseline may have: rounding has the grid of the recipe, GPTQ the one its users know.

    So what plain rounding loses is what the recipe's method gains, and GPTQ is as strong as it comes.
    """
    own = recipe.quantizer.grid_options
    for num_bits in _BITS:
        for group in _GROUPS:
            if name == "weight-only" and not isinstance(own, IntegerSpec):
                yield from _on_grid(own if isinstance(own, MXIntSpec) else MXIntSpec(), num_bits, group)
                continue
            is_symmetric = num_bits >= ZERO_POINTS_BELOW_BITS
            grid = own if isinstance(own, IntegerSpec) else IntegerSpec(symmetric=is_symmetric)
            for setting in _on_grid(grid, num_bits, group):
                yield setting if name == "weight-only" else GPTQSpec(grid=setting)


def _on_grid(grid: MXIntSpec | IntegerSpec, num_bits: int, group: int) -> Iterator[MXIntSpec | IntegerSpec]:
    field = grid.group_field or ""
    try:
        yield type(grid).model_validate({**grid.model_dump(), "num_bits": num_bits, field: group})
    except ValidationError:
        return  # this grid has no such group
