"""What a fine-tuning would take, against numbers worked out by hand and against what trainings hold."""

from dataclasses import replace

import pytest

from srr_core.recipe import MXIntSpec, cost
from srr_core.recipe.tuning import TuningSpec, named_start
from srr_core.recipe.tuning_cost import (
    TunedModel,
    base_bytes,
    counted_workload,
    evaluations,
    fixed_bytes,
    memory_bytes,
    operations,
    sizes_of,
    trained_parameters,
    usual_shapes,
    workload,
)
from srr_core.recipe.tuning_options import with_fields

MODEL = TunedModel(((100, 50), (50, 100)), kept_values=1000, hidden_size=50, vocabulary=20, blocks=2)
PACKED = TuningSpec(start=named_start("srr", quantizer=MXIntSpec(num_bits=2, block_size=16), rank=8))


def test_steps_of_rows_that_are_not_packed_are_exact() -> None:
    spec = with_fields(PACKED, {"task.kind": "classification", "batch.size": 4, "schedule.epochs": 3})

    found = workload(spec, rows=101, characters=8000, longest=400)

    # A tenth of 101 rows, rounded up, is held out: 90 in 23 steps of 4; the longest has 100 tokens.
    assert (found.steps_per_epoch, found.steps, found.pass_tokens) == (23, 69, 400)
    assert (found.tokens, found.validation_tokens) == (3 * 1800, 200)


def test_packed_rows_fill_windows_and_steps_may_end_early() -> None:
    spec = with_fields(PACKED, {"data.window": 100, "batch.size": 2, "schedule.epochs": 4, "schedule.max_steps": 10})

    found = workload(spec, rows=50, characters=4000, validation_characters=800)

    assert (found.steps_per_epoch, found.steps, found.pass_tokens) == (5, 10, 200)
    assert (found.tokens, found.validation_tokens) == (2000, 200)
    assert evaluations(spec, found) == 3


def test_factors_and_base_are_counted_from_shapes() -> None:
    assert trained_parameters(PACKED, MODEL) == 2 * 8 * 150
    assert base_bytes(PACKED, MODEL) == 2.5 * 10_000 / 8 + 4 * 1000
    lora = TuningSpec(start=named_start("lora"), rank=4, precision="bfloat16")
    assert trained_parameters(lora, MODEL) == 2 * 4 * 150
    assert base_bytes(lora, MODEL) == 2 * 11_000
    assert fixed_bytes(lora, MODEL) == cost.BASE_MEMORY_BYTES + 22_000 + 16 * 1200


def test_an_artifact_says_itself_what_it_holds() -> None:
    artifact = TunedModel(MODEL.shapes, 1000, 50, 20, 2, packed_bytes=5000, factor_values=77)

    assert (base_bytes(PACKED, artifact), trained_parameters(PACKED, artifact)) == (5000, 77)


def test_checkpointing_of_gradients_takes_less_memory_and_more_time() -> None:
    rows = counted_workload(PACKED, steps_per_epoch=5, windows=40, tokens=4000, validation_tokens=100, longest=100)
    again = with_fields(PACKED, {"batch.gradient_checkpointing": True})
    deep = TunedModel(MODEL.shapes * 20, 1000, 50, 20, blocks=20)

    assert memory_bytes(again, deep, rows) < memory_bytes(PACKED, deep, rows)
    assert operations(again, deep, rows) > operations(PACKED, deep, rows)


def test_a_grid_takes_as_many_times_as_it_has_trainings() -> None:
    rows = counted_workload(PACKED, steps_per_epoch=5, windows=40, tokens=4000, validation_tokens=100, longest=100)
    grid = with_fields(PACKED, {"grid.learning_rates": [1e-4, 3e-4], "grid.seeds": [0, 1, 2]})

    assert operations(grid, MODEL, rows) == pytest.approx(6 * operations(PACKED, MODEL, rows))


def test_sizes_are_found_wherever_a_configuration_has_them() -> None:
    config = {"text_config": {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 96}, "vocab_size": 10}

    assert sizes_of(config) == (64, 10, 3)
    assert usual_shapes(config) == (*[(64, 64)] * 4, (96, 64), (96, 64), (64, 96)) * 3
    assert usual_shapes({}) == ()


def test_packed_layers_keep_less_for_the_backward_pass_in_bfloat16_and_dense_ones_do_not() -> None:
    rows = counted_workload(PACKED, steps_per_epoch=5, windows=40, tokens=4000, validation_tokens=100, longest=100)
    wide, narrow = (
        with_fields(spec, {"precision": "bfloat16", "batch.gradient_checkpointing": False})
        for spec in (TuningSpec(start=named_start("lora"), rank=4), PACKED)
    )
    inputs = sum(columns for _, columns in MODEL.shapes)

    per_token = [
        (memory_bytes(spec, MODEL, replace(rows, pass_tokens=5000)) - memory_bytes(spec, MODEL, rows))
        / (5000 - rows.pass_tokens)
        for spec in (wide, narrow)
    ]

    assert per_token[0] - per_token[1] == (8 - 5) * inputs
