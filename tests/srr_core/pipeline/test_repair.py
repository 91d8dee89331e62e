"""Repair at the end of a run: never worse where it is judged, only what may learn changes, and resumes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from srr_core.errors import CalibrationError, CheckpointError, RecipeError, StopRequested
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline import compress
from srr_core.pipeline.repair_artifact import repair_artifact
from srr_core.recipe import Recipe, RepairSpec, override
from srr_core.recipe.stages import Stage
from srr_core.report import Report, read_report
from srr_core.runtime import load
from srr_core.types import Progress
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small

# PEFT 0.21 says so of every adapter on fused experts, and loads it.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
INTEGER = {"kind": "integer", "num_bits": 2, "group_size": 16}
REPAIR = {"num_sequences": 40, "epochs": 3, "warm_up_steps": 2, "evaluation_steps": 6, "learning_rate": 0.05}


def repaired(name: str = "srr", *, changes: dict[str, Any] | None = None, **repair: Any) -> Recipe:
    quantizer = {"kind": "gptq", "grid": INTEGER} if name == "gptq" else INTEGER
    return override(small(name), {"quantizer": quantizer, "repair": {**REPAIR, **repair}, **(changes or {})})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source", dtype=torch.float32)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def test_repair_lowers_the_divergence_where_it_is_judged_and_measures_before(
    tmp_path: Path, text: Path, source: Path
) -> None:
    plain = compress(
        source, repaired(changes={"repair": None}), tmp_path / "plain", calibration_text=text, evaluation_text=text
    )
    report = compress(source, repaired(), tmp_path / "out", calibration_text=text, evaluation_text=text)

    assert report.repair is not None
    assert report.repair.best_loss < report.repair.start_loss
    assert report.repair.before == plain.measurements
    assert report.measurements[0].compressed < report.repair.before[0].compressed
    assert (report.repair.windows, report.repair.held_out_windows) == (35, 5)
    assert report.size_bytes == plain.size_bytes
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_text()) == report


@pytest.mark.parametrize(
    ("parts", "changed"),
    [(["scales"], {"weight_scale"}), (["low_rank"], {"lora_"}), (["low_rank", "scales"], {"weight_scale", "lora_"})],
    ids=["scales", "low_rank", "both"],
)
def test_only_what_was_asked_for_changes(
    parts: list[str], changed: set[str], tmp_path: Path, text: Path, source: Path
) -> None:
    compress(source, repaired(changes={"repair": None}), tmp_path / "plain", calibration_text=text)
    compress(source, repaired(parts=parts), tmp_path / "out", calibration_text=text)

    before, after = weights(tmp_path / "plain"), weights(tmp_path / "out")

    assert [*before] == [*after]
    assert {name: (t.dtype, t.shape) for name, t in before.items()} == {n: (t.dtype, t.shape) for n, t in after.items()}
    different = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part for part in ("weight_scale", "lora_") if any(part in name for name in different)} == changed
    assert all(any(part in name for part in changed) for name in different)


def test_stock_tools_and_our_loader_read_what_was_repaired(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, repaired(), tmp_path / "out", calibration_text=text)
    ids = torch.arange(3, 19)[None]

    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(stock(ids).logits, load(tmp_path / "out", dtype=torch.float32)(ids).logits, atol=2e-2)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_an_interrupted_repair_ends_with_the_same_bits(stop_at: int, tmp_path: Path, text: Path, source: Path) -> None:
    recipe = repaired()
    whole = compress(source, recipe, tmp_path / "whole", calibration_text=text, model_id="same")
    seen: list[Progress] = []

    def is_enough() -> bool:
        return sum(step.stage is Stage.REPAIR and "step" in step.metrics for step in seen) >= stop_at

    with pytest.raises(StopRequested):
        compress(
            source,
            recipe,
            tmp_path / "out",
            calibration_text=text,
            model_id="same",
            on_progress=seen.append,
            should_stop=is_enough,
        )
    report = compress(source, recipe, tmp_path / "out", calibration_text=text, model_id="same")

    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert report.repair is not None
    assert whole.repair is not None
    assert report.repair.best_loss == whole.repair.best_loss
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    "name",
    ["GPT2LMHeadModel", "BertForMaskedLM", "MixtralForCausalLM", "Gemma2ForCausalLM", "OPTForCausalLM"],
)
def test_every_kind_of_architecture_is_repaired(name: str, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)

    report = compress(source, repaired(), tmp_path / "out", calibration_text=text)

    assert report.repair is not None
    assert report.repair.loss == "divergence"
    assert report.repair.best_loss < report.repair.start_loss


def test_a_model_without_a_head_learns_its_last_hidden_states_and_says_so(tmp_path: Path, text: Path) -> None:
    masked = build_checkpoint(tmp_path / "source", "BertForMaskedLM", dtype=torch.float32)
    source = tmp_path / "headless"
    shutil.copytree(masked, source, ignore=shutil.ignore_patterns("*.safetensors"))
    transformers.BertModel.from_pretrained(masked).save_pretrained(source)

    report = compress(source, repaired(), tmp_path / "out", calibration_text=text)

    assert report.repair is not None
    assert report.repair.loss == "hidden"
    assert report.repair.best_loss < report.repair.start_loss
    assert any("last hidden states" in note for note in report.notes)


def test_a_model_without_low_rank_learns_its_scales_and_one_with_neither_is_refused(
    tmp_path: Path, text: Path, source: Path
) -> None:
    report = compress(source, repaired("gptq"), tmp_path / "out", calibration_text=text)
    assert report.repair is not None
    assert report.repair.parts == ("scales",)
    assert report.repair.best_loss < report.repair.start_loss

    mxint = override(repaired("weight-only"), {"quantizer": {"kind": "mxint"}})
    with pytest.raises(RecipeError, match="nothing to repair"):
        compress(source, mxint, tmp_path / "mxint", calibration_text=text)


def test_layers_with_settings_of_their_own_are_repaired(tmp_path: Path, text: Path, source: Path) -> None:
    budget = {"target_bits": 4.1, "num_bits": [2, 3, 4], "group_sizes": [16, 32], "num_sequences": 4}
    recipe = repaired("gptq", changes={"budget": {**budget, "sequence_length": 16}})

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)

    assert report.repair is not None
    assert report.repair.best_loss < report.repair.start_loss
    assert len(set(open_artifact(tmp_path / "out").layout.mixed.values())) > 0


def test_rates_that_ruin_it_leave_the_start_and_say_so(tmp_path: Path, text: Path, source: Path) -> None:
    recipe = repaired(learning_rate=1.0, scale_learning_rate=1.0, warm_up_steps=0)
    compress(source, repaired(changes={"repair": None}), tmp_path / "plain", calibration_text=text)

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)

    assert report.repair is not None
    assert report.repair.best_loss <= report.repair.start_loss
    if report.repair.best_step == 0:
        before, after = weights(tmp_path / "plain"), weights(tmp_path / "out")
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_text_too_short_to_hold_a_slice_out_is_refused(tmp_path: Path, source: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("a river of words")

    with pytest.raises(CalibrationError, match="one to learn from and one to judge by"):
        compress(source, repaired(num_sequences=None), tmp_path / "out", calibration_text=text)


def test_a_finished_artifact_is_repaired_as_a_run_of_its_own(tmp_path: Path, text: Path, source: Path) -> None:
    whole = compress(source, repaired(), tmp_path / "whole", calibration_text=text, evaluation_text=text)
    plain = repaired(changes={"repair": None})
    compress(source, plain, tmp_path / "plain", calibration_text=text, evaluation_text=text)
    spec = repaired().repair
    assert spec is not None

    report = repair_artifact(
        tmp_path / "plain", source, spec, tmp_path / "out", calibration_text=text, evaluation_text=text
    )

    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert expected.keys() == found.keys()
    assert report.measurements == whole.measurements
    assert report.recipe == whole.recipe
    assert read_report(json.loads((tmp_path / "out" / "report.json").read_text())) == report
    assert not (tmp_path / "out.partial").exists()


def test_an_artifact_is_not_repaired_from_another_model(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, repaired(changes={"repair": None}), tmp_path / "plain", calibration_text=text)
    other = build_checkpoint(tmp_path / "other", dtype=torch.float32, num_hidden_layers=1)

    with pytest.raises(CheckpointError, match=r"made from another model than 'other'.*layers\.1\."):
        repair_artifact(tmp_path / "plain", other, RepairSpec(), tmp_path / "out", calibration_text=text)
    with pytest.raises(CheckpointError, match="not a compressed model"):
        repair_artifact(source, source, RepairSpec(), tmp_path / "out", calibration_text=text)
