"""Checkpoints that travel with a fine-tuned result: the same bits, gone on from, published by themselves."""

import json

import pytest
import torch
from safetensors.torch import load_file

from srr_core.errors import RecipeError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.pipeline import compress
from srr_core.pipeline.finetune import finetune
from srr_core.recipe import named_recipe, override
from srr_core.recipe.tuning import (
    AdapterResult,
    ArtifactStart,
    CheckpointSpec,
    LoRAStart,
    MergedResult,
    RecompressedResult,
    ScheduleSpec,
)
from srr_core.recipe.tuning_tasks import ClassificationTask
from srr_core.tuners.folders import HEAD_FILE
from srr_core.tuners.kept import KEPT_BASE, KEPT_FOLDER, kept_folder
from tests.pico import build_checkpoint, write_text
from tests.srr_core.tuners.starts import CALIBRATION, going_on, write_rows

WORDS = ("river", "engine", "letter", "garden", "signal")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return build_checkpoint(tmp_path_factory.mktemp("dense") / "source", dtype=torch.float32)


@pytest.fixture(scope="module")
def packed(dense, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    recipe = override(named_recipe("srr"), {"rank": 4, "calibration": CALIBRATION, "evaluation": None})
    compress(dense, recipe, folder / "out", calibration_text=write_text(folder / "t.txt"))
    return folder / "out"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    return write_rows(file, ({"text": f"the {WORDS[i % 5]} {i}" + "!" * (i % 4)} for i in range(24)))


def test_kept_checkpoints_travel_with_the_result_and_any_of_them_can_be_published(packed, rows, tmp_path):
    folder, published = tmp_path / "out", tmp_path / "third"
    checkpoints = CheckpointSpec(evaluate_every=2, keep=100, publish=True)
    first = finetune(packed, rows, going_on(checkpoints=checkpoints), folder)
    step = next(step for step in first.kept if step != first.cells[0].best_step)
    best = kept_folder(folder, first.cells[0].best_step)

    start = ArtifactStart(checkpoint=step)
    second = finetune(folder, rows, going_on(start=start, schedule=ScheduleSpec(max_steps=0)), published)

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
        finetune(packed, rows, going_on(start=ArtifactStart(checkpoint=2)), tmp_path / "out")


RECOMPRESSED = override(named_recipe("srr"), {"rank": 2, "calibration": CALIBRATION})


@pytest.mark.parametrize(
    ("start", "result"),
    [
        ("lora", AdapterResult()),
        ("lora", MergedResult(dtype="float32")),
        ("srr", MergedResult()),
        ("srr", RecompressedResult(recipe=RECOMPRESSED)),
    ],
    ids=["adapter-on-16-bit", "merged-from-16-bit", "merged", "recompressed"],
)
def test_a_checkpoint_of_any_start_and_any_result_is_published_and_goes_on(
    dense, packed, rows, tmp_path, start, result
):
    source, begins = (dense, LoRAStart()) if start == "lora" else (packed, ArtifactStart())
    checkpoints = CheckpointSpec(evaluate_every=2, keep=100, publish=True)
    first = finetune(
        source,
        rows,
        going_on(start=begins, result=result, checkpoints=checkpoints, rank=4),
        tmp_path / "out",
        calibration_text=write_text(tmp_path / "t.txt"),
        artifact_id="org/tuned",
    )
    step = next(step for step in first.kept if step != first.cells[0].best_step)
    kept, at_step = kept_folder(tmp_path / "out", step), first.cells[0].evaluations[step // 2].scores["loss"]

    begins = ArtifactStart(checkpoint=step)
    alone = finetune(
        tmp_path / "out", rows, going_on(start=begins, schedule=ScheduleSpec(max_steps=0)), tmp_path / "alone"
    )
    further = finetune(
        tmp_path / "out", rows, going_on(start=begins, schedule=ScheduleSpec(max_steps=3)), tmp_path / "further"
    )

    assert (tmp_path / "alone" / ADAPTER_WEIGHTS).read_bytes() == (kept / ADAPTER_WEIGHTS).read_bytes()
    assert not (tmp_path / "alone" / KEPT_FOLDER).exists()
    assert alone.start.base_sha256 == further.start.base_sha256 == first.start.base_sha256
    assert (alone.start.is_fresh, alone.start.rank) == (False, 4)
    assert alone.scores["loss"] == pytest.approx(at_step, rel=2e-3)  # factors are stored in 16 bits
    assert further.start_scores["loss"] == pytest.approx(alone.scores["loss"], rel=1e-6)
    assert further.cells[0].steps == 3
    # Where L·R is in the matrices, nobody is told to put it on them again.
    named = json.loads((kept / ADAPTER_CONFIG).read_text())["base_model_name_or_path"]
    assert named == ("org/tuned" if isinstance(result, AdapterResult) else None)
    assert (tmp_path / "out" / KEPT_BASE).is_dir() != isinstance(result, AdapterResult)


def test_a_merged_classifier_goes_on_from_a_checkpoint_with_the_head_of_its_step(dense, tmp_path):
    labelled = [{"text": f"{('bad', 'good')[i % 2]} {WORDS[i % 5]} {i}", "label": i % 2} for i in range(40)]
    file = write_rows(tmp_path / "a.jsonl", labelled)
    task, checkpoints = ClassificationTask(), CheckpointSpec(evaluate_every=2, keep=100, publish=True)
    changes = {"start": LoRAStart(), "task": task, "checkpoints": checkpoints, "rank": 4}
    first = finetune(dense, file, going_on(result=MergedResult(dtype="float32"), **changes), tmp_path / "out")
    step = next(step for step in first.kept if step != first.cells[0].best_step)
    begins = ArtifactStart(checkpoint=step)

    alone = finetune(
        tmp_path / "out",
        file,
        going_on(start=begins, task=task, schedule=ScheduleSpec(max_steps=0)),
        tmp_path / "alone",
    )

    head = kept_folder(tmp_path / "out", step) / HEAD_FILE
    assert (tmp_path / "alone" / HEAD_FILE).read_bytes() != (tmp_path / "out" / KEPT_BASE / HEAD_FILE).read_bytes()
    assert all(
        torch.equal(tensor, load_file(tmp_path / "alone" / HEAD_FILE)[name]) for name, tensor in load_file(head).items()
    )
    at_step = first.cells[0].evaluations[step // 2].scores["loss"]
    assert alone.scores["loss"] == pytest.approx(at_step, rel=2e-3)


def test_a_tuned_16_bit_model_goes_on_learning_as_it_is_and_is_no_plain_model(dense, rows, tmp_path):
    first = finetune(dense, rows, going_on(start=LoRAStart(), rank=4), tmp_path / "out")

    again = finetune(tmp_path / "out", rows, going_on(), tmp_path / "again")

    assert (again.start.kind, again.start.is_fresh, again.start.rank) == ("artifact", False, 4)
    assert again.start.base_sha256 == first.start.base_sha256
    assert again.start_scores["loss"] == pytest.approx(first.scores["loss"], rel=1e-6)
    with pytest.raises(RecipeError, match=r"adapter beside it; start from it as it is \(start 'artifact'\)"):
        finetune(tmp_path / "out", rows, going_on(start=LoRAStart()), tmp_path / "other")


def test_a_merged_result_without_its_adapter_says_which_checkpoints_it_keeps(dense, rows, tmp_path):
    chosen = going_on(start=LoRAStart(), result=MergedResult(), checkpoints=CheckpointSpec(publish=True), rank=4)
    first = finetune(dense, rows, chosen, tmp_path / "out")

    listed = ", ".join(map(str, first.kept))
    with pytest.raises(RecipeError, match=rf"or one of its checkpoints \({listed}\), or 'lora'"):
        finetune(tmp_path / "out", rows, going_on(), tmp_path / "again")
