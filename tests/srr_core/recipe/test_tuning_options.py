"""Starts, tasks and fields as users write them become one checked specification."""

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import PRESETS
from srr_core.recipe.tuning import STARTS, ArtifactStart, LoRAStart, RecipeStart, TuningSpec
from srr_core.recipe.tuning_options import parse_tuning, with_fields, with_rank, with_start, with_task
from srr_core.recipe.tuning_tasks import GLUETask, InstructionTask


@pytest.mark.parametrize("name", STARTS)
def test_every_start_has_its_name(name):
    start = with_start(TuningSpec(), name).start
    assert start == (LoRAStart() if name == "lora" else RecipeStart(recipe=PRESETS[name]))


def test_artifact_is_a_start_too():
    assert with_start(TuningSpec(), "artifact").start == ArtifactStart()


def test_tasks_have_their_names():
    assert with_task(TuningSpec(), "instructions").task == InstructionTask()
    assert with_task(TuningSpec(), "glue:cola").task == GLUETask(name="cola")
    with pytest.raises(RecipeError, match="task"):
        with_task(TuningSpec(), "glue:poems")


def test_rank_is_that_of_the_start_where_it_brings_one():
    assert with_rank(with_start(TuningSpec(), "srr"), 8).start.recipe.rank == 8
    fresh = with_rank(with_start(TuningSpec(), "qlora"), 8)
    assert (fresh.rank, fresh.start.recipe.rank) == (8, 0)


def test_fields_are_replaced_in_any_order_and_kinds_first():
    spec = with_fields(
        with_start(TuningSpec(), "loftq"),
        {"start.recipe.quantizer.num_bits": 2, "start.recipe.quantizer.kind": "mxint", "slowing.kind": "per-rank"},
    )
    assert (spec.start.recipe.quantizer.kind, spec.start.recipe.quantizer.num_bits) == ("mxint", 2)
    assert spec.start.recipe.iterations == 5
    assert spec.slowing.alpha == 5.0


def test_slips_name_the_field_and_those_that_are_known():
    with pytest.raises(RecipeError, match=r"optimizer\.rate.*known fields: learning_rate"):
        with_fields(TuningSpec(), {"optimizer.rate": 1})
    with pytest.raises(RecipeError, match="invalid fine-tuning"):
        parse_tuning({"rank": 0})
