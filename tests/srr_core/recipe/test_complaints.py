"""What people are told of a wrong value is in our words, and names the field that was meant."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from srr_core.errors import RecipeError
from srr_core.recipe import named_recipe, override
from srr_core.recipe.complaints import complaint, complaints
from srr_core.recipe.tuning_options import parse_tuning
from srr_core.recipe.upgrade import read_recipe

_KINDS = "known kinds: 'mxint', 'integer', 'normal-float', 'gptq', 'learned', 'quip-sharp'"
WRONG: tuple[tuple[str, Any, str], ...] = (
    ("rank", -1, "rank: must be at least 0 (got -1)"),
    ("rank", "x", "rank: must be a whole number (got 'x')"),
    ("rank", 2.5, "rank: must be a whole number (got 2.5)"),
    ("quantizer.num_bits", 17, "quantizer.mxint.num_bits: must be at most 8 (got 17)"),
    ("quantizer.block_size", 7, "quantizer.mxint.block_size: must be 16 or 32 (got 7)"),
    ("quantizer.kind", "best", f"quantizer: is of the unknown kind 'best'; {_KINDS}"),
    (
        "name",
        "A B",
        "name: must be a word of small letters, digits and . - that begins with a letter or a digit (got 'A B')",
    ),
    ("keep_best", "perhaps", "keep_best: must be true or false (got 'perhaps')"),
    ("min_share", "much", "min_share: must be a number (got 'much')"),
    ("calibration", 3, "calibration: must be an object (got 3)"),
    ("evaluation.evaluators", [], "evaluation.evaluators: must have 1 or more entries (got [])"),
)


@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=[f"{path}={value}" for path, value, _ in WRONG])
def test_a_wrong_value_of_a_recipe_is_told_in_our_words(path: str, value: Any, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        override(named_recipe("srr"), {path: value})
    assert str(caught.value) == f"invalid recipe: {told}"


@pytest.mark.parametrize(
    ("path", "meant"), [("rnk", "rank"), ("quantizer.numbits", "num_bits"), ("calibration.batchsize", "batch_size")]
)
def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(path: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=rf"is not a known field; did you mean {meant}\?; known fields: .*{meant}"):
        override(named_recipe("srr"), {path: 1})


def test_fine_tunings_and_stored_recipes_say_it_the_same_way() -> None:
    with pytest.raises(
        RecipeError, match=r"invalid fine-tuning: dropuot: is not a known field; did you mean dropout\?"
    ):
        parse_tuning({"dropuot": 0.1})
    with pytest.raises(RecipeError, match=r"stored recipe .*: rank: must be at least 0 \(got -3\)"):
        read_recipe({"rank": -3})


class _Asked(BaseModel):
    name: str


def test_a_missing_field_is_needed_and_what_was_given_instead_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        _Asked.model_validate({"nmae": "a secret"})
    assert complaints(caught.value, _Asked, whole="request") == "name: is needed"


def test_a_kind_of_error_without_a_sentence_keeps_its_own_words() -> None:
    assert complaint({"type": "greater_than", "msg": "too small", "loc": ("x",)}) == "too small"
    assert complaint({"type": "of_a_later_version", "msg": "no good", "loc": ("x",)}) == "no good"
