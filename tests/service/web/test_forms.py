"""What the form proposes, and what it can say of a job."""

import pytest

from service.web.again import can_say
from service.web.forms import default_destination
from srr_core.recipe import PRESETS, Recipe, named_recipe, override


@pytest.mark.parametrize(
    ("owner", "destination"),
    [
        ("local", "org/model-srr-3bit"),
        ("team-a", "team-a/model-srr-3bit"),
        ("hf:alice", "alice/model-srr-3bit"),
        ("build room", "org/model-srr-3bit"),
    ],
)
def test_a_result_is_proposed_where_its_owner_may_write(owner: str, destination: str) -> None:
    assert default_destination("org/model", named_recipe("srr"), owner=owner) == destination


@pytest.mark.parametrize("recipe", PRESETS.values(), ids=PRESETS)
def test_the_form_has_fields_for_every_named_recipe(recipe: Recipe) -> None:
    assert can_say(recipe)


def test_the_form_knows_what_it_has_no_field_for() -> None:
    assert can_say(override(named_recipe("gptq"), {"quantizer.grid.group_size": 32, "rank": 4, "seed": 3}))
    assert not can_say(override(named_recipe("gptq"), {"quantizer.damping": 0.5}))
    assert not can_say(override(named_recipe("gptq"), {"name": "mine"}))
