"""What a budget can buy: the ends of the range are reached, and nothing beyond them."""

import math
from typing import Any

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import Recipe, cost, named_recipe, override
from srr_core.recipe.budgeted import candidates
from srr_core.recipe.reach import require_reachable

SHAPES = ((256, 128), (128, 256), (128, 128), (128, 128))
WEIGHTS = sum(math.prod(shape) for shape in SHAPES)
SOURCE, KEPT = 2 * WEIGHTS, 40_000


def budget(**target: Any) -> Recipe:
    return override(named_recipe("srr-fast"), {"budget": {**target, "num_bits": [2, 4], "ranks": [0, 16]}})


def check(recipe: Recipe) -> None:
    require_reachable(recipe, SHAPES, source_bytes=SOURCE, kept_bytes=KEPT)


def bits() -> list[float]:
    """The bits per weight of every candidate, alike in every layer."""
    return [
        sum(choice.bits_per_weight(*shape) * math.prod(shape) for shape in SHAPES) / WEIGHTS
        for _, choice in candidates(budget(target_bits=3.0))
    ]


def test_both_ends_are_reached_and_a_little_less_than_the_smallest_is_not() -> None:
    smallest, largest = min(bits()), max(bits())
    check(budget(target_bits=smallest))
    check(budget(target_bits=largest))
    check(budget(target_size_bytes=math.ceil(smallest * WEIGHTS / 8) + KEPT))

    for target in ({"target_bits": smallest - 0.001}, {"target_size_bytes": int(smallest * WEIGHTS / 8) + KEPT - 1}):
        with pytest.raises(RecipeError, match=rf"below the smallest choices; .* {smallest:.2f} to {largest:.2f} bits"):
            check(budget(**target))


@pytest.mark.parametrize("target", [{"target_bits": 16.0}, {"target_size_bytes": SOURCE + KEPT}])
def test_what_would_be_as_large_as_the_source_is_refused(target: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="as large as they are in the source"):
        check(budget(**target))


def test_a_size_that_the_other_tensors_fill_alone_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"used up by the 39\.1 KiB of tensors that are not compressed"):
        check(budget(target_size_bytes=KEPT // 2))


def test_a_divergence_and_no_budget_say_nothing_of_bits() -> None:
    check(budget(target_kl=0.01))
    check(named_recipe("srr"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"target_kl": 0.01}, None),
        ({"target_bits": 3.0}, 3.0 * WEIGHTS),
        ({"target_size_bytes": KEPT + 100}, 800.0),
        ({"target_size_bytes": KEPT // 2}, 0.0),
    ],
)
def test_a_target_says_how_many_bits_there_are(target: dict[str, Any], expected: float | None) -> None:
    spec = budget(**target).budget

    assert spec is not None
    assert spec.bits(weights=WEIGHTS, kept_bytes=KEPT) == expected


def test_a_search_costs_at_least_what_every_candidate_costs_alone() -> None:
    recipe = budget(target_bits=3.0)
    plain = recipe.model_copy(update={"budget": None})
    alone = [cost.operations(choice, SHAPES) for _, choice in candidates(recipe)]

    search = cost.operations(recipe, SHAPES) - cost.operations(plain, SHAPES)

    assert len(alone) == 2 * 3 * 2
    assert max(alone) < search < sum(alone)  # what they share is counted once
