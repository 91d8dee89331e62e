"""Checkpoints that travel with a fine-tuned result: the same bits, gone on from, published by themselves."""

import pytest
import torch

from srr_core.errors import RecipeError
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.pipeline import compress
from srr_core.pipeline.finetune import finetune
from srr_core.recipe import named_recipe, override
from srr_core.recipe.tuning import (
    ArtifactStart,
    BatchSpec,
    CheckpointSpec,
    DataSpec,
    MergedResult,
    OptimizerSpec,
    ScheduleSpec,
    TuningSpec,
    named_start,
)
from srr_core.tuners.kept import KEPT_FOLDER, kept_folder
from tests.pico import build_checkpoint, write_text
from tests.srr_core.tuners.starts import CALIBRATION, write_rows

WORDS = ("river", "engine", "letter", "garden", "signal")


def spec(**changes):
    fields = {
        "start": ArtifactStart(),
        "data": DataSpec(window=64),
        "batch": BatchSpec(size=4),
        "schedule": ScheduleSpec(epochs=2),
        "optimizer": OptimizerSpec(learning_rate=1e-2),
    }
    return TuningSpec(**{**fields, **changes})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    source = build_checkpoint(folder / "source", dtype=torch.float32)
    recipe = override(named_recipe("srr"), {"rank": 4, "calibration": CALIBRATION, "evaluation": None})
    compress(source, recipe, folder / "out", calibration_text=write_text(folder / "t.txt"))
    return folder / "out"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    return write_rows(file, ({"text": f"the {WORDS[i % 5]} {i}" + "!" * (i % 4)} for i in range(24)))


def test_kept_checkpoints_travel_with_the_result_and_any_of_them_can_be_published(packed, rows, tmp_path):
    folder, published = tmp_path / "out", tmp_path / "third"
    checkpoints = CheckpointSpec(evaluate_every=2, keep=100, publish=True)
    first = finetune(packed, rows, spec(checkpoints=checkpoints), folder)
    step = next(step for step in first.kept if step != first.cells[0].best_step)
    best = kept_folder(folder, first.cells[0].best_step)

    start = ArtifactStart(checkpoint=step)
    second = finetune(folder, rows, spec(start=start, schedule=ScheduleSpec(max_steps=0)), published)

    assert first.kept == tuple(sorted({*range(2, first.cells[0].steps + 1, 2), first.cells[0].steps}))
    assert (best / ADAPTER_WEIGHTS).read_bytes() == (folder / ADAPTER_WEIGHTS).read_bytes()
    assert (published / ADAPTER_WEIGHTS).read_bytes() == (kept_folder(folder, step) / ADAPTER_WEIGHTS).read_bytes()
    assert not (published / KEPT_FOLDER).exists()
    assert (second.cells[0].steps, second.cells[0].best_step, second.start.base_sha256) == (
        0,
        0,
        first.start.base_sha256,
    )
    assert second.scores["loss"] == pytest.approx(first.cells[0].evaluations[step // 2].scores["loss"], rel=2e-3)
    assert any("trained nothing" in note for note in second.notes)


def test_checkpoint_that_is_not_kept_is_refused_with_what_is(packed, rows, tmp_path):

    with pytest.raises(
        RecipeError, match=r"keeps no checkpoints: they are published where checkpoints\.publish is true"
    ):
        finetune(packed, rows, spec(start=ArtifactStart(checkpoint=2)), tmp_path / "out")


@pytest.mark.parametrize(
    "changes", [{"start": named_start("lora")}, {"result": MergedResult()}], ids=["lora", "merged"]
)
def test_checkpoints_need_the_base_they_stand_on_beside_them(changes):
    with pytest.raises(ValueError, match="it needs result 'adapter' and a start other than 'lora'"):
        spec(checkpoints=CheckpointSpec(publish=True), **changes)
