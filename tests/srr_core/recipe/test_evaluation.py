"""What a recipe says of its evaluation, today and in documents of the first version."""

import json

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import DivergenceSpec, EvaluationSpec, PerplexitySpec, Recipe, override, parse_recipe
from srr_core.recipe.upgrade import read_recipe

OF_VERSION_0_1 = "3cc23c96c6817856cc8f25165d36c9399ce16069ded657e1033ac3f29f01eecb"
"""The digest of `Recipe()` as that version computed it."""
PERPLEXITY_ALONE = {"evaluation.evaluators": [{"kind": "perplexity"}]}


def test_an_evaluation_of_the_first_version_is_read_with_the_usual_evaluators() -> None:
    stored = {"evaluation": {"num_sequences": 2, "sequence_length": 32, "batch_size": 4}}

    assert (
        read_recipe(stored).evaluation
        == parse_recipe(stored).evaluation
        == EvaluationSpec(num_sequences=2, sequence_length=32)
    )


def test_evaluators_are_chosen_by_kind() -> None:
    recipe = override(Recipe(), {"evaluation.evaluators": [{"kind": "divergence", "num_sequences": 4}]})

    assert recipe.evaluation is not None
    assert recipe.evaluation.evaluators == (DivergenceSpec(num_sequences=4),)
    assert override(Recipe(), PERPLEXITY_ALONE).evaluation == EvaluationSpec(evaluators=(PerplexitySpec(),))


@pytest.mark.parametrize(
    "evaluators", [[], [{"kind": "perplexity"}, {"kind": "perplexity"}], [{"kind": "vibes"}], [{}]], ids=json.dumps
)
def test_evaluators_that_make_no_sense_are_refused(evaluators: list[dict[str, str]]) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.evaluators"):
        override(Recipe(), {"evaluation.evaluators": evaluators})


def test_digests_of_the_first_version_stay_as_they_were() -> None:
    assert Recipe().digest() == OF_VERSION_0_1
    assert Recipe().digest() != override(Recipe(), PERPLEXITY_ALONE).digest()
    assert override(Recipe(), {"evaluation": None}).stated()["evaluation"] is None
