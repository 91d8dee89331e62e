"""What a user writes for a recipe: a name, or an object that starts from one."""

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import PRESETS, parse_recipe


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_name_and_survives_being_written_out(name: str) -> None:
    assert parse_recipe(name) == PRESETS[name] == parse_recipe(PRESETS[name].model_dump(mode="json"))


def test_an_object_that_names_a_preset_replaces_only_what_it_says() -> None:
    recipe = parse_recipe({"name": "qera-exact", "quantizer": {"num_bits": 2}})
    assert recipe.quantizer.num_bits == 2
    assert recipe.rank_selector == PRESETS["qera-exact"].rank_selector


@pytest.mark.parametrize(
    ("name", "meant"),
    [("qera-exat", "qera-exact"), ("srr_gptq", "srr-gptq"), ("srrmax", "srr-max"), ("qptq", "gptq")],
)
def test_a_slip_in_a_name_is_refused_with_the_name_that_was_meant(name: str, meant: str) -> None:
    for written in (name, {"name": name, "rank": 8}):
        with pytest.raises(RecipeError, match=f"Did you mean '{meant}'"):
            parse_recipe(written)


def test_a_name_of_ones_own_starts_from_the_defaults() -> None:
    assert parse_recipe({"name": "night-run", "rank": 8}).rank == 8


def test_a_whole_method_may_have_any_name() -> None:
    written = PRESETS["gptq"].model_dump(mode="json") | {"name": "gptq4"}
    assert parse_recipe(written).quantizer == PRESETS["gptq"].quantizer


@pytest.mark.parametrize(
    ("selector", "rank", "expected"),
    [
        ({"fraction": 0.5}, 16, 8),
        ({"count": 5}, 16, 5),
        ({"count": 5}, 4, 4),
        ({"count": 0, "fraction": 1.0}, 16, 0),
    ],
)
def test_the_preserved_rank_is_a_share_or_a_number(selector: dict[str, float], rank: int, expected: int) -> None:
    recipe = parse_recipe({"name": "srr", "rank_selector": {"kind": "fixed", **selector}})
    assert recipe.rank_selector.preserved(rank) == expected
