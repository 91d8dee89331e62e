"""What blocks hand on beside hidden states is put where later blocks ask for it, and never made up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srr_core.errors import UnsupportedModelError
from srr_core.models.handed import Handed, ReturnForm, StandIns, filled, wanted


def test_the_form_of_an_output_is_kept() -> None:
    hidden, choice = torch.zeros(2), torch.tensor([1, 2])
    assert ReturnForm.of(hidden).wrap(hidden, ()) is hidden
    assert ReturnForm.of((hidden, choice)).wrap(hidden, (choice,)) == (hidden, choice)
    assert ReturnForm.of([hidden]).wrap(hidden, ()) == [hidden]


@pytest.mark.parametrize("output", [None, {"hidden": torch.zeros(1)}, (None, torch.zeros(1))])
def test_an_output_without_hidden_states_is_refused(output: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="not hidden states"):
        ReturnForm.of(output)


def test_a_stand_in_is_known_again_in_arguments_and_filled_with_the_real_value() -> None:
    stand_ins = StandIns()
    form = ReturnForm.of((torch.zeros(2), torch.zeros(3), None))
    first, nothing = stand_ins.extras(4, form)
    assert nothing is None
    arguments = stand_ins.marked({"residual": first, "others": (1, first)})
    assert arguments == {"residual": Handed(4, 0), "others": (1, Handed(4, 0))}
    assert wanted(arguments) == {Handed(4, 0)}
    real = torch.ones(3)
    assert filled(arguments, {Handed(4, 0): real}) == {"residual": real, "others": (1, real)}


@pytest.mark.parametrize("change", [lambda value: value + 1, lambda value: value[:1], torch.clone])
def test_an_argument_computed_from_a_stand_in_is_refused(change: Callable[[Tensor], Tensor]) -> None:
    stand_ins = StandIns()
    (residual,) = stand_ins.extras(0, ReturnForm.of((torch.zeros(2), torch.zeros(3))))
    with pytest.raises(UnsupportedModelError, match="computes between its blocks"):
        stand_ins.marked((change(residual),))


def test_a_choice_of_experts_that_is_used_gives_itself_away() -> None:
    (choice,) = StandIns().extras(0, ReturnForm.of((torch.zeros(2), torch.tensor([0, 1]))))
    with pytest.raises(IndexError):
        nn.Embedding(2, 2)(choice)
