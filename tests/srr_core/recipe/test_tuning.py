"""A fine-tuning as data: strict at the edges, complete as JSON, and without torch."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from srr_core.errors import RecipeError
from srr_core.recipe import PRESETS, GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.recipe.tuning import (
    FRESH_LEARNING_RATE,
    LOW_RANK_LEARNING_RATE,
    SLOWED_FACTOR,
    STARTS,
    ArtifactStart,
    GridSpec,
    LearningRateSlowing,
    LoRAStart,
    OptimizerSpec,
    RecipeStart,
    TuningSpec,
    named_start,
)
from srr_core.recipe.tuning_tasks import GLUE_TASKS, ClassificationTask, GLUETask, RegressionTask

QUANTIZERS = [MXIntSpec(num_bits=2), IntegerSpec(), NormalFloatSpec(), GPTQSpec(), QuIPSharpSpec()]


def test_default_is_a_valid_document_that_reads_back_as_itself():
    spec = TuningSpec()
    assert TuningSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("name", [name for name in STARTS if name != "lora"])
def test_every_start_goes_with_every_quantizer(name, quantizer):
    start = named_start(name, quantizer=quantizer, rank=8)
    assert start.recipe.quantizer == quantizer
    assert start.recipe.rank == (0 if name == "qlora" else 8)
    assert start.recipe.scaling == PRESETS[name].scaling


def test_lora_is_the_model_itself_and_takes_no_recipe():
    assert named_start("lora") == LoRAStart()
    with pytest.raises(RecipeError, match="16-bit"):
        named_start("lora", quantizer=MXIntSpec())


def test_unknown_start_is_refused_with_those_that_exist():
    with pytest.raises(RecipeError, match="srr-iterative"):
        named_start("pissa")


def test_recipe_of_a_start_may_be_a_name_or_an_object_that_starts_from_one():
    named = TuningSpec.model_validate({"start": {"kind": "recipe", "recipe": "srr"}})
    changed = TuningSpec.model_validate({"start": {"kind": "recipe", "recipe": {"name": "srr", "rank": 8}}})
    assert named.start == RecipeStart(recipe=PRESETS["srr"])
    assert changed.start.recipe.rank == 8
    with pytest.raises(ValidationError, match="unknown recipe"):
        TuningSpec.model_validate({"start": {"kind": "recipe", "recipe": "srrr"}})


@pytest.mark.parametrize(
    "document",
    [
        {"epochs": 3},
        {"optimizer": {"learning_rate": 0}},
        {"checkpoints": {"evaluate_every": 0}},
        {"task": {"kind": "classification", "labels": ["a", "a"]}},
        {"task": {"kind": "classification"}, "data": {"too_long": "split"}},
        {"task": {"kind": "gsm8k"}, "data": {"window": 256}},
        {"start": {"kind": "lora"}, "slowing": {"kind": "learning-rate"}},
    ],
    ids=lambda document: next(iter(document)),
)
def test_nonsense_is_refused(document):
    with pytest.raises(ValidationError):
        TuningSpec.model_validate(document)


def test_auto_learning_rate_is_resolved_by_what_the_start_brings():
    def rate(**fields):
        return TuningSpec(**fields).resolved().optimizer.learning_rate

    assert rate(start=named_start("qlora")) == rate(start=LoRAStart()) == FRESH_LEARNING_RATE
    assert rate(start=named_start("srr")) == rate(start=ArtifactStart()) == LOW_RANK_LEARNING_RATE
    assert rate(slowing=LearningRateSlowing()) == LOW_RANK_LEARNING_RATE * SLOWED_FACTOR
    assert rate(optimizer=OptimizerSpec(learning_rate=1e-3)) == 1e-3
    assert TuningSpec(start=ArtifactStart()).resolved(starts_fresh=True).optimizer.learning_rate == FRESH_LEARNING_RATE


def test_grid_is_every_rate_with_every_seed():
    grid = TuningSpec(grid=GridSpec(learning_rates=(1e-4, 3e-4), seeds=(42, 1)))
    assert grid.cells() == ((1e-4, 42), (1e-4, 1), (3e-4, 42), (3e-4, 1))
    assert TuningSpec(seed=7).resolved().cells() == ((LOW_RANK_LEARNING_RATE, 7),)
    with pytest.raises(RecipeError, match="auto"):
        TuningSpec().cells()


def test_digest_sees_what_changes_the_training_and_not_the_form_of_the_result():
    spec = TuningSpec()
    assert spec.digest() == spec.model_copy(update={"result": {"kind": "merged"}}).digest()
    assert spec.digest() != spec.model_copy(update={"seed": 1}).digest()


@pytest.mark.parametrize("name", list(GLUE_TASKS))
def test_every_task_of_glue_has_columns_and_a_metric(name):
    plain = GLUETask(name=name).as_plain()
    if name == "stsb":
        assert plain == RegressionTask(text="sentence1", second_text="sentence2", metric="pearson-spearman")
    else:
        assert isinstance(plain, ClassificationTask)
        assert len(plain.labels) == (3 if name == "mnli" else 2)
        assert plain.metric == ("matthews" if name == "cola" else "accuracy")


def test_specifications_are_read_without_torch():
    code = "import sys, srr_core.recipe.tuning; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
