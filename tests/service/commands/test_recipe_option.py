"""A recipe from a name, a file, changes and a target, as commands take it."""

from pathlib import Path

import pytest

from service.commands.output import CommandError
from service.commands.recipe_option import chosen_recipe
from srr_core.errors import RecipeError
from srr_core.recipe import PRESETS


def test_a_recipe_comes_from_a_name_a_file_and_changes(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"name": "srr", "rank": 8}', encoding="utf-8")

    recipe = chosen_recipe(str(file), ["quantizer.num_bits=2", "reconstruct=concat"], seed=7)

    assert (recipe.rank, recipe.quantization_bits, recipe.reconstruct, recipe.seed) == (8, 2, "concat", 7)
    assert chosen_recipe("lqer", []) == PRESETS["lqer"]


def test_a_target_keeps_what_is_set_and_chooses_the_rest() -> None:
    chosen = chosen_recipe("srr", ["rank=8"], target="sglang", seed=3)

    assert (chosen.target, chosen.rank, chosen.seed, chosen.quantization_bits) == ("sglang", 8, 3, 4)
    with pytest.raises(RecipeError, match="takes 4 or 8 bits, not 3"):
        chosen_recipe("srr", ["quantizer.num_bits=3"], target="sglang")


def test_a_target_of_size_takes_a_recipe_that_spends_it() -> None:
    by_bits, by_size = chosen_recipe(None, [], target_bits=2.56), chosen_recipe("gptq", ["rank=0"], target_size="4GB")
    by_kl = chosen_recipe("srr-fast", [], target_kl=0.02)

    assert (by_bits.name, by_bits.budget and by_bits.budget.target_bits) == ("srr-fast", 2.56)
    assert (by_size.name, by_size.budget and by_size.budget.target_size_bytes) == ("gptq", 4_000_000_000)
    assert by_kl.budget is not None
    assert (by_kl.budget.target_bits, by_kl.budget.target_kl) == (None, 0.02)
    assert chosen_recipe(None, []) == PRESETS["srr"]


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_recipe_file_that_is_none_is_explained(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    with pytest.raises(CommandError, match="recipe file") as refused:
        chosen_recipe(str(file), [])

    assert refused.value.exit_code == 2


def test_a_change_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(RecipeError, match="quantizer"):
        chosen_recipe("srr", ["quantizer.nonsense=1"])
