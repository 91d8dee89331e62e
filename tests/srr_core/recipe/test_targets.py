"""A target chooses what a recipe leaves open, keeps what it says, and refuses with what would do."""

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, PRESETS, Recipe, named_recipe, override, parse_recipe
from srr_core.recipe.targets import NEEDS, USUAL, Model, obstacle, require_target, unserved

ON_A_GRID = [name for name, recipe in PRESETS.items() if recipe.quantizer.uniform_grid is not None]


@pytest.mark.parametrize("target", NEEDS)
@pytest.mark.parametrize("name", ON_A_GRID)
def test_every_recipe_on_a_grid_fits_every_target_and_stays_the_method_it_is(name: str, target: str) -> None:
    found = parse_recipe({"name": name, "target": target})

    assert obstacle(found) is None
    assert found.quantizer.kind == PRESETS[name].quantizer.kind
    assert found.scaling == PRESETS[name].scaling


@pytest.mark.parametrize("target", NEEDS)
def test_a_recipe_that_was_aimed_is_read_again_as_it_is(target: str) -> None:
    found = parse_recipe({"name": "gptq", "target": target})

    assert parse_recipe(found.model_dump(mode="json")) == found
    assert override(found, {"seed": 1}).quantizer == found.quantizer


def test_no_target_changes_nothing() -> None:
    assert parse_recipe({"name": "srr"}) == named_recipe("srr")
    assert parse_recipe({"name": "srr", "target": "srr"}).quantizer == named_recipe("srr").quantizer


def test_a_target_is_no_part_of_what_a_recipe_does() -> None:
    assert parse_recipe({"name": "srr", "target": "vllm"}).digest() == named_recipe("srr").digest()


def test_what_is_said_is_kept_and_the_rest_chosen() -> None:
    found = parse_recipe({"name": "gptq", "target": "sglang", "quantizer": {"grid": {"num_bits": 8}}})
    grid = found.quantizer.uniform_grid

    assert grid is not None
    assert grid.num_bits == 8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            {"name": "srr", "target": "sglang", "quantizer": {"num_bits": 3}},
            "SGLang: takes 4 or 8 bits, not 3; export merged instead. This would do: quantizer.num_bits=4.",
        ),
        ({"name": "quip-sharp", "target": "vllm"}, "a uniform grid would do, such as gptq, srr or srr-gptq"),
    ],
)
def test_what_a_target_does_not_take_is_refused_with_what_would_do(value: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(value)

    assert said in str(raised.value)


def test_the_plugin_takes_ranks_that_vllms_own_loras_do_not() -> None:
    assert parse_recipe({"name": "srr", "target": "vllm", "rank": 600}).rank == 600


def test_an_override_is_kept_by_the_target_too() -> None:
    with pytest.raises(RecipeError, match="not 5"):
        override(named_recipe("srr"), {"target": "gptq", "quantizer.num_bits": 5})
    assert override(named_recipe("srr"), {"target": "gptq", "rank": 8}).rank == 8


@pytest.mark.parametrize(
    ("recipe", "model", "said"),
    [
        (
            {"name": "srr", "target": "vllm", "rank": 320},
            Model([(4096, 4096)], has_experts=True),
            "640, twice the recipe's for gate and up of experts; it takes 512 at most. This would do: rank=256.",
        ),
        (
            {"name": "srr", "target": "sglang"},
            Model([(4096, 96)]),
            "No choice of bits, group, symmetry and rank would do",
        ),
        (
            {"name": "gptq", "target": "transformers", "quantizer": {"grid": {"group_size": 128}}},
            Model([(64, 96)]),
            "quantizer.grid.group_size=32",
        ),
        ({"name": "srr", "target": "llama.cpp"}, Model(architecture="BertModel"), "not BertModel"),
    ],
)
def test_the_shapes_of_the_model_are_asked_before_the_work(recipe: dict[str, object], model: Model, said: str) -> None:
    aimed = parse_recipe(recipe)

    with pytest.raises(RecipeError) as raised:
        require_target(aimed, model)

    assert said in str(raised.value)


def test_what_would_do_does() -> None:
    aimed = parse_recipe({"name": "gptq", "target": "transformers", "quantizer": {"grid": {"group_size": 128}}})
    model = Model([(64, 96)])
    with pytest.raises(RecipeError) as raised:
        require_target(aimed, model)
    advice = str(raised.value).partition("This would do: ")[2].rstrip(".").split()

    changed = override(aimed, {path: int(value) for path, value in (word.split("=") for word in advice)})

    require_target(changed, model)


def test_the_proposed_recipe_is_taken_packed_by_stock_loaders_and_a_fast_server_also_as_a_mixture() -> None:
    proposed = named_recipe(DEFAULT_RECIPE)
    for target in ("transformers", "vllm", "sglang", "llama.cpp", "gptq"):
        assert obstacle(proposed.model_copy(update={"target": target}), USUAL) is None, target
    mixture = Model(has_experts=True)
    for target in ("transformers", "vllm"):
        assert obstacle(proposed.model_copy(update={"target": target}), mixture) is None, target


def test_a_result_that_no_server_takes_packed_is_told() -> None:
    assert unserved(named_recipe(DEFAULT_RECIPE), USUAL) is None
    assert "srr_core.runtime alone keeps it packed" in str(unserved(named_recipe("quip-sharp"), USUAL))


def test_an_unknown_target_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"llama\.cpp"):
        parse_recipe({"name": "srr", "target": "tensorrt"})
    assert Recipe().target == "any"
