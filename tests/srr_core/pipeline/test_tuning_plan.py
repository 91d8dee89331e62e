"""What a fine-tuning cannot do is refused before a weight is read."""

import json
import shutil

import pytest

from srr_core.errors import CheckpointError, DestinationError, EvaluationError, RecipeError, TrainingDataError
from srr_core.pipeline.tuning_plan import plan_tuning
from srr_core.recipe import EvaluationSpec, MXIntSpec, named_recipe
from srr_core.recipe.tuning import (
    FRESH_LEARNING_RATE,
    LOW_RANK_LEARNING_RATE,
    ArtifactStart,
    DataSpec,
    LoRAStart,
    RecompressedResult,
    TuningSpec,
)
from srr_core.recipe.tuning_tasks import ClassificationTask, TextTask
from tests.pico import build_checkpoint, write_text
from tests.srr_core.exporters.artifacts import build_artifact, pico_llama
from tests.srr_core.tuners.starts import write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    build_checkpoint(folder / "model")
    write_text(folder / "text.txt")
    write_rows(folder / "a.jsonl", ({"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)))
    return folder


def plan(folder, spec, destination, *, source="model", text=True, **options):
    fixed = {
        "validation_data": None,
        "calibration_text": folder / "text.txt" if text else None,
        "neutral_text": None,
        "model_id": None,
        "revision": None,
        "artifact_id": None,
        "device": "cpu",
    }
    return plan_tuning(folder / source, folder / "a.jsonl", spec, destination, **{**fixed, **options})


def compressed(folder, rank):
    name = f"compressed{rank}"
    if not (folder / name).exists():
        build_artifact(folder / name, pico_llama(), MXIntSpec(num_bits=3), rank=rank)
        for file in (folder / "model").glob("tokenizer*"):
            (folder / name / file.name).write_bytes(file.read_bytes())
    return name


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        (TuningSpec(start=ArtifactStart()), {}, RecipeError, "no artifact of ours"),
        (TuningSpec(), {"text": False}, RecipeError, "calibration text"),
        (
            TuningSpec(start=LoRAStart(), result=RecompressedResult(recipe=named_recipe("srr"))),
            {"text": False},
            RecipeError,
            "calibration text",
        ),
        (TuningSpec(task=TextTask(column="body")), {}, TrainingDataError, r"a\.jsonl, row 1: has the columns 'text'"),
        (TuningSpec(), {"device": "tpu"}, RecipeError, "unknown device"),
    ],
)
def test_what_cannot_work_is_refused(folder, tmp_path, spec, options, error, message):
    with pytest.raises(error, match=message):
        plan(folder, spec, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_compressed_model_is_not_compressed_again(folder, tmp_path):
    with pytest.raises(RecipeError, match="compressed already"):
        plan(folder, TuningSpec(), tmp_path / "out", source=compressed(folder, 4))


@pytest.mark.parametrize("stop", ["2", 2.5, True, [2, None, {}]])
def test_a_stop_that_is_no_token_is_refused_by_its_file(folder, tmp_path, stop):
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}))

    with pytest.raises(CheckpointError, match=r"generation_config\.json: eos_token_id names"):
        plan(folder, TuningSpec(), tmp_path / "out", source=tmp_path / "model")


def test_destination_that_exists_is_refused(folder, tmp_path):
    with pytest.raises(DestinationError):
        plan(folder, TuningSpec(), tmp_path)


@pytest.mark.parametrize(("rank", "rate"), [(4, LOW_RANK_LEARNING_RATE), (0, FRESH_LEARNING_RATE)])
def test_auto_learning_rate_looks_at_what_the_artifact_brings(folder, tmp_path, rank, rate):
    spec = TuningSpec(start=ArtifactStart())
    found = plan(folder, spec, tmp_path / "out", source=compressed(folder, rank), text=False)
    assert found.spec.optimizer.learning_rate == rate


def test_long_window_is_shortened_to_that_of_the_model(folder, tmp_path):
    found = plan(folder, TuningSpec(data=DataSpec(window=1024)), tmp_path / "out")
    assert found.spec.data.window == 64
    assert found.notes == ("the window was shortened from 1024 to the model's 64 tokens",)


def test_neutral_text_is_cut_for_language_models_alone(folder, tmp_path):
    windows = EvaluationSpec(num_sequences=2, sequence_length=16)
    options = {"neutral_text": folder / "text.txt"}
    assert plan(folder, TuningSpec(neutral=windows), tmp_path / "out", **options).neutral.ids.shape == (2, 16)
    classes = TuningSpec(neutral=windows, task=ClassificationTask())
    assert plan(folder, classes, tmp_path / "out", **options).neutral is None
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(EvaluationError, match="short"):
        plan(folder, TuningSpec(neutral=windows), tmp_path / "out", neutral_text=tmp_path / "short.txt")


def test_fingerprint_sees_source_specification_and_data(folder, tmp_path):
    first = plan(folder, TuningSpec(), tmp_path / "out").fingerprint()
    assert first == plan(folder, TuningSpec(), tmp_path / "out").fingerprint()
    other = plan(folder, TuningSpec(seed=1), tmp_path / "out").fingerprint()
    assert {key for key in first if first[key] != other[key]} == {"specification"}
