"""What the form proposes, and what it can say of a job."""

import pytest

from service.web.again import can_say
from service.web.forms import TEXT_FIELDS, FormError, chosen_recipe, default_destination
from srr_core.recipe import PRESETS, Recipe, named_recipe, override


@pytest.mark.parametrize(
    ("owner", "destination"),
    [
        ("local", "org/model-srr-3.5bit"),
        ("team-a", "team-a/model-srr-3.5bit"),
        ("hf:alice", "alice/model-srr-3.5bit"),
        ("build room", "org/model-srr-3.5bit"),
    ],
)
def test_a_result_is_proposed_where_its_owner_may_write(owner: str, destination: str) -> None:
    assert default_destination("org/model", named_recipe("srr"), owner=owner) == destination


def test_a_result_is_named_by_the_bits_of_the_whole_model() -> None:
    name = default_destination("org/model", named_recipe("srr"), owner="local", bits=7.26)

    assert name == "org/model-srr-7.3bit"


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_the_form_has_fields_for_every_named_recipe(recipe: Recipe) -> None:
    assert can_say(recipe)


def test_the_form_knows_what_it_has_no_field_for() -> None:
    assert can_say(override(named_recipe("gptq"), {"quantizer.grid.group_size": 32, "rank": 4, "seed": 3}))
    assert not can_say(override(named_recipe("gptq"), {"quantizer.damping": 0.5}))
    assert not can_say(override(named_recipe("gptq"), {"name": "mine"}))


@pytest.mark.parametrize(
    ("recipe", "field", "typed", "target"),
    [
        ("srr-fast", "target_bits", "2.56", ("target_bits", 2.56)),
        ("gptq", "target_size", "4GB", ("target_size_bytes", 4_000_000_000)),
        ("srr-learned", "target_kl", "0.02", ("target_kl", 0.02)),
    ],
)
def test_a_target_of_size_becomes_a_budget(recipe: str, field: str, typed: str, target: tuple[str, float]) -> None:
    chosen = chosen_recipe(dict.fromkeys(TEXT_FIELDS, "") | {"recipe": recipe, field: typed})

    assert chosen.budget is not None
    assert getattr(chosen.budget, target[0]) == target[1]
    assert can_say(chosen)


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ({"target_bits": "many"}, {"target_bits": "'many' is not a number."}),
        ({"target_size": "many"}, {"target_size": "'many' is no size; write it as 4GiB, 800MiB or 4GB."}),
        (
            {"target_bits": "3", "target_kl": "0.1"},
            dict.fromkeys(("target_bits", "target_kl"), "One target of bits, size or KL at most."),
        ),
    ],
)
def test_a_wrong_target_of_size_is_explained_at_its_field(typed: dict[str, str], wrong: dict[str, str]) -> None:
    with pytest.raises(FormError) as refused:
        chosen_recipe(dict.fromkeys(TEXT_FIELDS, "") | {"recipe": "srr-fast"} | typed)

    assert refused.value.messages == wrong
