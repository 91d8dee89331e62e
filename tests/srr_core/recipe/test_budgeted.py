"""A target put on a recipe."""

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import PRESETS, named_recipe, override, parse_recipe
from srr_core.recipe.budget import TARGETS
from srr_core.recipe.budgeted import budgeted
from srr_core.recipe.byte_sizes import size_in_bytes


def test_a_recipe_with_a_budget_keeps_its_choices_and_changes_its_target() -> None:
    recipe = named_recipe("srr-fast")
    assert recipe.budget is not None

    found = budgeted(recipe, target_kl=0.02)

    assert found.budget == recipe.budget.model_copy(update={"target_bits": None, "target_kl": 0.02})
    assert found.model_copy(update={"budget": recipe.budget}) == recipe


@pytest.mark.parametrize(
    ("name", "groups", "ranks"),
    [("gptq", (32, 64, 128), (0,)), ("srr-gptq", (32, 64, 128), (0, 32)), ("srr", (32,), (0, 32))],
)
def test_a_recipe_without_a_budget_gets_what_its_grid_has(
    name: str, groups: tuple[int, ...], ranks: tuple[int, ...]
) -> None:
    budget = budgeted(named_recipe(name), target_bits=3.1).budget

    assert budget is not None
    assert (budget.target_bits, budget.num_bits, budget.group_sizes, budget.ranks) == (3.1, (2, 3, 4), groups, ranks)


@pytest.mark.parametrize("name", ["quip-sharp", "qlora"])
def test_codes_without_a_grid_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"uniform grid; those of {name} do not"):
        budgeted(PRESETS[name], target_bits=3.0)


@pytest.mark.parametrize("target", [{"target_size_bytes": 4_000_000}, {"target_kl": 0.02}, {"target_bits": 2.5}])
def test_a_target_takes_the_place_of_the_one_of_the_preset(target: dict[str, float]) -> None:
    written = parse_recipe({"name": "srr-fast", "budget": target})
    changed = override(named_recipe("srr-fast"), {f"budget.{name}": value for name, value in target.items()})

    assert written == changed
    assert written.budget is not None
    assert {name: value for name in TARGETS if (value := getattr(written.budget, name)) is not None} == target


def test_two_targets_at_once_are_refused() -> None:
    both = {"target_bits": 3.0, "target_kl": 0.02}

    with pytest.raises(RecipeError, match="needs one of"):
        parse_recipe({"name": "srr-fast", "budget": both})
    with pytest.raises(RecipeError, match="needs one of"):
        override(named_recipe("srr-fast"), {f"budget.{name}": value for name, value in both.items()})


def test_one_target_is_needed() -> None:
    recipe = override(named_recipe("gptq"), {"rank": 0})

    for targets in ({}, {"target_bits": 3.0, "target_kl": 0.1}):
        with pytest.raises(RecipeError, match="give one target"):
            budgeted(recipe, **targets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4_000_000_000),
        ("3.5 GiB", 3_758_096_384),
        ("800mb", 800_000_000),
        ("12k", 12_000),
        ("123456", 123_456),
        ("7B", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4 XB", "0GB", "4GBB", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is no size"):
        size_in_bytes(text)
