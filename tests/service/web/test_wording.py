"""Messages as sentences, and choices with words for every variant."""

from typing import get_args

import pytest

from service.keys.schema import ALL_SCOPES
from service.web.choices import RANK_SELECTORS, SCALINGS
from service.web.wording import SCOPE_WORDS, sentence
from srr_core.recipe import RankSelectorSpec, ScalingSpec


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("the job is over", "The job is over."),
        ("org/model is gated: accept its terms", "org/model is gated: accept its terms."),
        ("4096 inputs are too many!", "4096 inputs are too many!"),
        ("'x' is no number.", "'x' is no number."),
        ("", ""),
    ],
)
def test_a_message_becomes_a_sentence_and_names_stay_names(message: str, text: str) -> None:
    assert sentence(message) == text


def test_every_right_has_words() -> None:
    assert set(SCOPE_WORDS) == set(ALL_SCOPES)


def test_every_scaling_can_be_chosen() -> None:
    kinds = {spec.model_fields["kind"].default for spec in get_args(get_args(ScalingSpec)[0])}

    assert {row.spec["kind"] for row in SCALINGS.values()} == kinds


def test_every_rank_selector_can_be_chosen() -> None:
    kinds = {spec.model_fields["kind"].default for spec in get_args(get_args(RankSelectorSpec)[0])}

    assert {row.spec["kind"] for row in RANK_SELECTORS.values()} == kinds
