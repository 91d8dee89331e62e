"""Baselines of a run are what runs of them would be, change nothing of the result, and survive an interruption."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from srr_core.errors import RecipeError, StopRequested
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, GPTQSpec, IntegerSpec, MXIntSpec, Recipe, override
from srr_core.recipe.baselines import baseline_recipes
from srr_core.recipe.stages import Stage
from srr_core.report import Report
from srr_core.types import Progress
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small

pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
BOTH = ["weight-only", "gptq"]
COARSE = {"kind": "gptq", "act_order": False, "grid": {"kind": "integer", "num_bits": 2, "group_size": 16}}
"""Two bits, so that what is compared is no rounding, and neither of the baselines."""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


def run(source: Path, recipe: Recipe, destination: Path, text: Path, **options: Any) -> Report:
    return compress(source, recipe, destination, calibration_text=text, evaluation_text=text, **options)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM"])
def test_a_baseline_is_what_a_run_of_its_recipe_gives(name: str, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name)
    report = run(source, small("gptq", baselines=BOTH, quantizer=COARSE), tmp_path / "out", text, model_id="m")

    assert [baseline.recipe.name for baseline in report.baselines] == BOTH
    for number, baseline in enumerate(report.baselines):
        alone = run(source, baseline.recipe, tmp_path / f"alone-{number}", text, model_id="m")
        assert baseline.size_bytes == alone.size_bytes.compressed
        assert baseline.bits_per_weight == pytest.approx(alone.bits_per_weight.total, rel=1e-12)
        assert baseline.mean_output_error == alone.mean_output_error
        assert [row.metric for row in baseline.measurements] == [row.metric for row in alone.measurements]
        for mine, other in zip(baseline.measurements, alone.measurements, strict=True):
            # A float32 softmax, and products in another order where an artifact keeps experts in stacks of its own.
            assert mine.compressed == pytest.approx(other.compressed, rel=1e-4, abs=1e-9)
            assert mine.protocol == other.protocol
        assert baseline.measurements[0].compressed > 1e-6
        gap = report.measurements[0].compressed - baseline.measurements[0].compressed
        assert baseline.divergence_gap == pytest.approx(gap, abs=1e-9)


def test_baselines_change_nothing_of_the_result(tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    plain = run(source, small(), tmp_path / "plain", text)
    beside = run(source, small(baselines=BOTH), tmp_path / "beside", text)

    assert digests(tmp_path / "plain") == digests(tmp_path / "beside")
    assert plain.measurements == beside.measurements
    assert plain.baselines == ()
    assert beside.seconds[Stage.BASELINES] > 0
    assert Stage.BASELINES not in plain.seconds
    assert sorted(file.name for file in (tmp_path / "plain").iterdir()) == sorted(
        file.name for file in (tmp_path / "beside").iterdir()
    )


@pytest.mark.parametrize("stage", [Stage.COMPRESS, Stage.EVALUATE])
def test_baselines_of_an_interrupted_run_are_those_of_a_whole_one(stage: Stage, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    whole = run(source, small(baselines=BOTH), tmp_path / "whole", text)
    seen: list[Progress] = []

    def stop() -> bool:
        return sum(step.stage is stage for step in seen) > 3

    with pytest.raises(StopRequested):
        run(source, small(baselines=BOTH), tmp_path / "out", text, on_progress=seen.append, should_stop=stop)
    resumed = run(source, small(baselines=BOTH), tmp_path / "out", text)

    def facts(report: Report) -> list[dict[str, Any]]:
        return [baseline.model_dump(exclude={"seconds"}) for baseline in report.baselines]

    assert facts(resumed) == facts(whole)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_baseline_that_is_added_to_unfinished_work_is_made_for_the_layers_that_are_done(
    tmp_path: Path, text: Path
) -> None:
    source = build_checkpoint(tmp_path / "source")
    seen: list[Progress] = []
    with pytest.raises(StopRequested):
        run(
            source,
            small(),
            tmp_path / "out",
            text,
            on_progress=seen.append,
            should_stop=lambda: any(step.stage is Stage.EVALUATE for step in seen),
        )
    report = run(source, small(baselines=["gptq"]), tmp_path / "out", text)

    assert (
        report.baselines[0].measurements
        == run(source, small(baselines=["gptq"]), tmp_path / "whole", text).baselines[0].measurements
    )


def test_without_a_text_to_compare_on_there_are_no_baselines(tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    report = compress(source, small(baselines=BOTH), tmp_path / "out", calibration_text=text)

    assert report.baselines == ()
    assert Stage.BASELINES not in report.seconds


def test_the_digest_of_a_recipe_is_that_without_baselines() -> None:
    recipe = override(PRESETS["srr"], {"baselines": BOTH})

    assert recipe.digest() == PRESETS["srr"].digest()
    assert "baselines" not in PRESETS["qera-exact"].stated()
    assert recipe.stated()["baselines"] == BOTH


def test_a_baseline_has_the_bits_nearest_to_the_recipe_s_and_the_grid_of_its_users() -> None:
    recipe = override(PRESETS["srr"], {"baselines": BOTH})
    rounded, gptq = baseline_recipes(recipe, 4.4)

    assert rounded.quantizer == MXIntSpec(num_bits=4, block_size=16)
    assert gptq.quantizer == GPTQSpec(grid=IntegerSpec(num_bits=4, group_size=32, symmetric=True))
    integer = override(recipe, {"quantizer": {"kind": "integer", "num_bits": 3, "group_size": 64}})
    assert baseline_recipes(integer, 3.3)[0].quantizer == IntegerSpec(num_bits=3, group_size=64)
    assert (rounded.rank, gptq.rank) == (0, 0)
    assert gptq.calibration == recipe.calibration


def test_a_recipe_is_not_compared_with_itself() -> None:
    recipe = override(PRESETS["gptq"], {"baselines": BOTH})

    assert [one.name for one in baseline_recipes(recipe, recipe.bits_per_weight(64, 64))] == ["weight-only"]


def test_what_is_no_baseline_is_refused() -> None:
    with pytest.raises(RecipeError, match="baselines"):
        override(PRESETS["srr"], {"baselines": ["quip-sharp"]})
    with pytest.raises(RecipeError, match="once"):
        override(PRESETS["srr"], {"baselines": ["gptq", "gptq"]})
