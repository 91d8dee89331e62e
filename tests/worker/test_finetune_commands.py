"""`srr finetune` as a user types it, and the card it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.commands.output import CommandError
from service.hub.errors import InvalidWeightsError
from service.hub.model import RepoFile, ResolvedModel
from srr_core.errors import RecipeError, TrainingDataError
from srr_core.recipe.tuning import ArtifactStart, TuningSpec
from srr_core.runtime import load
from srr_core.tuners.report import REPORT_NAME, TuningReport
from tests.pico import build_checkpoint, write_text
from worker.finetune_commands import taken
from worker.tuning_card import tuning_card

SMALL = {
    "start.recipe.calibration.num_sequences": 4,
    "start.recipe.calibration.sequence_length": 16,
    "data.window": 64,
    "schedule.epochs": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    build_checkpoint(folder / "model")
    write_text(folder / "text.txt")
    lines = [{"prompt": f"say {i}", "completion": f"well {i}"} for i in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def run(folder: Path, destination: Path, *options: str, model: str = "model") -> str:
    small = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]
    fixed = ["--calibration-text", str(folder / "text.txt"), "--task", "instructions"]
    arguments = ["finetune", str(folder / model), str(folder / "rows.jsonl"), str(destination), *fixed]
    result = CliRunner().invoke(app, [*arguments, *(small if model == "model" else small[4:]), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_model_is_tuned_into_a_folder_with_a_card(folder: Path, tmp_path: Path) -> None:
    shown = run(folder, tmp_path / "out", "--start", "srr", "--rank", "4", "--neutral-text", str(folder / "text.txt"))
    report = TuningReport.model_validate_json((tmp_path / "out" / REPORT_NAME).read_bytes())
    assert report.start.rank == 4
    assert f"loss        {report.start_scores['loss']:.4f} → {report.scores['loss']:.4f}" in shown
    assert "drift" in shown
    assert shown.endswith(f"written     {tmp_path / 'out'}\n")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "`srr` on mxint, 3.25 bits per weight in Q" in card
    assert report.start.base_sha256 in card
    assert "AutoModelForCausalLM" in card
    assert load(tmp_path / "out")
    again = run(folder, tmp_path / "again", model=str(tmp_path / "out"))
    assert "start       artifact, rank 4" in again


def test_data_is_shown_with_what_is_learned_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    shown = run(folder, tmp_path / "out", "--check")
    assert "rows        11 to learn from, 1 to judge by" in shown
    assert "say 0«well 0</s>»" in shown or "say 1«well 1</s>»" in shown
    assert "learning    " in shown
    assert not list(tmp_path.iterdir())
    document = json.loads(run(folder, tmp_path / "out", "--check", "--json"))
    assert document["training"]["rows"] == 11
    needs = document["estimate"]
    assert needs["memory_bytes"] > needs["base_bytes"] + 16 * needs["trained_parameters"]


def test_whole_specification_may_be_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"start": {"kind": "lora"}, "rank": 2}))
    document = json.loads(run_plain(folder, tmp_path / "out", "--spec", str(tmp_path / "spec.json"), "--json"))
    assert (document["start"]["kind"], document["start"]["rank"]) == ("lora", 2)
    assert document["spec"]["seed"] == 3


def run_plain(folder: Path, destination: Path, *options: str) -> str:
    """Run without the fields of a recipe, which a 16-bit start does not have."""
    arguments = ["finetune", str(folder / "model"), str(folder / "rows.jsonl"), str(destination), "--seed", "3"]
    fields = ["--task", "instructions", "--set", "data.window=64", "--set", "schedule.epochs=1"]
    result = CliRunner().invoke(app, [*arguments, *fields, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--start", "pissa"], RecipeError, "unknown start 'pissa'"),
        (["--task", "poems"], RecipeError, "task"),
        (["--set", "optimizer.rate=1"], RecipeError, "known fields: learning_rate"),
        (["--set", "task.prompt=question"], TrainingDataError, "row 1: has the columns 'prompt', 'completion'"),
        (["--spec", "missing.json"], CommandError, "missing"),
    ],
)
def test_slips_are_told_in_one_line(
    folder: Path, tmp_path: Path, options: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(folder, tmp_path / "out", *options)


BASE = "checkpoints/base/model.safetensors"
STEP = "checkpoints/step-00000002/adapter_model.safetensors"


def on_the_hub(*others: str) -> ResolvedModel:
    paths = ("config.json", "model.safetensors", "tuning.json", *others)
    files = tuple(RepoFile(path, 10) for path in paths)
    return ResolvedModel("me/tuned", "c" * 40, private=False, gated=False, files=files, config={"license": "mit"})


@pytest.mark.parametrize(
    ("changes", "others", "fetched", "left"),
    [
        ({}, ["adapter_model.safetensors", "adapter_config.json", STEP], "adapter_model.safetensors", STEP),
        ({"start": ArtifactStart(checkpoint=2)}, [BASE, STEP], BASE, "model.safetensors"),
        ({"start": ArtifactStart(checkpoint=2)}, ["adapter_config.json", STEP], STEP, BASE),
    ],
    ids=["as-published", "checkpoint-with-its-base", "checkpoint-on-the-result"],
)
def test_a_result_of_the_hub_is_fetched_with_what_goes_on_learning(
    changes: dict[str, Any], others: list[str], fetched: str, left: str
) -> None:
    found = taken(on_the_hub(*others), TuningSpec(**changes), has_start=bool(changes))

    paths = {file.path for file in found.whole_downloads}
    assert {fetched, "config.json", "tuning.json"} <= paths
    assert left not in paths


def test_what_must_not_be_fetched_is_refused_before_it_is() -> None:
    with pytest.raises(RecipeError, match="keeps no checkpoint of step 3, but of 2"):
        taken(on_the_hub(BASE, STEP), TuningSpec(start=ArtifactStart(checkpoint=3)), has_start=True)
    with pytest.raises(InvalidWeightsError, match="adapter"):
        taken(on_the_hub("adapter_config.json"), TuningSpec(), has_start=True)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("srr", "from srr_core.runtime import load"),
        (None, 'pip install "transformers>=5" peft'),
        ("compressed-tensors", "compressed-tensors>=0.18"),
    ],
)
def test_card_says_how_to_load_what_was_written(
    folder: Path, tmp_path: Path, method: str | None, expected: str
) -> None:
    run_plain(folder, tmp_path / "out", "--start", "lora")
    report = TuningReport.model_validate_json((tmp_path / "out" / REPORT_NAME).read_bytes())
    source = ResolvedModel("org/model", sha="c" * 40, private=False, gated=False, files=())
    card = tuning_card(report, repo_id="me/tuned", source=source, quant_method=method)
    assert expected in card
    assert "the 16-bit model with a fresh adapter" in card
    assert f"| {report.cells[0].best_step} |" in card
