"""Runs with a budget: settings by layer, files stock tools load, and a search that is made once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from srr_core.budget.table import ScoreTable
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError, ExportError, RecipeError, StopRequested
from srr_core.exporters.export import export
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline import budgeting, compress, inspect_model
from srr_core.recipe import GPTQFormatSpec, MergedSpec, Recipe, override
from srr_core.report import Report
from srr_core.runtime import load
from srr_core.types import Progress
from srr_core.verification.dense_view import DenseView
from tests.pico import build_checkpoint, byte_tokenizer, write_text
from tests.srr_core.pipeline.test_compress import small

# PEFT 0.21 says so of every adapter on fused experts, and loads it.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
CHOICES = {"num_bits": [2, 3, 4], "group_sizes": [16, 32], "num_sequences": 4, "sequence_length": 16}


def budgeted(name: str = "gptq", *, changes: dict[str, Any] | None = None, **budget: Any) -> Recipe:
    wanted = {**CHOICES, "target_bits": 4.1, **budget}
    return override(small(name), {"budget": wanted, **(changes or {})})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source", dtype=torch.float32)


def settings_of(out: Path) -> dict[str, tuple[int, int]]:
    layout = open_artifact(out).layout
    grids = {name: layout.of(name).spec.uniform_grid for name in open_artifact(out).module_names()}
    return {name: (grid.num_bits, grid.group_size) for name, grid in grids.items() if grid is not None}


def test_layers_have_settings_of_their_own_within_the_budget(tmp_path: Path, text: Path, source: Path) -> None:
    report = compress(source, budgeted(), tmp_path / "out", calibration_text=text, evaluation_text=text)

    assert report.budget is not None
    assert report.budget.used_bytes <= report.budget.budget_bytes
    assert report.bits_per_weight.stored == pytest.approx(
        8 * report.budget.used_bytes / sum(a * b for a, b in (layer.shape for layer in report.layers))
    )
    assert report.bits_per_weight.stored <= 4.1
    chosen = settings_of(tmp_path / "out")
    assert len(set(chosen.values())) > 1
    assert sum(count.layers for count in report.budget.settings) == len(chosen) == len(report.layers)
    assert {(count.num_bits, count.group_size) for count in report.budget.settings} == set(chosen.values())
    for block in range(2):
        attention = f"model.layers.{block}.self_attn."
        assert len({chosen[f"{attention}{name}_proj"] for name in "qkv"}) == 1


def stock_model(out: Path) -> Any:
    """Load as somebody does who does not have this package."""
    config = transformers.AutoConfig.from_pretrained(out)
    config.quantization_config = {key: value for key, value in config.quantization_config.items() if key != "srr"}
    return transformers.AutoModelForCausalLM.from_pretrained(out, config=config, dtype=torch.float32)


@pytest.mark.parametrize(("symmetric", "rank"), [(True, 0), (True, 4), (False, 0), (False, 4)])
def test_our_loader_reads_every_mix_and_stock_tools_read_theirs_or_say_no(
    symmetric: bool, rank: int, tmp_path: Path, text: Path, source: Path
) -> None:
    changes = {"quantizer.grid.symmetric": symmetric}
    recipe = budgeted("srr-gptq", changes=changes, target_bits=4.1 + 2 * rank, ranks=[rank])

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)

    artifact = open_artifact(tmp_path / "out")
    assert len(set(settings_of(tmp_path / "out").values())) > 1
    dense = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    view = DenseView(artifact)
    dense.load_state_dict({name: view[name].float() for name in view}, strict=False)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        expected = dense(ids).logits
        assert torch.allclose(load(tmp_path / "out", dtype=torch.float32)(ids).logits, expected, atol=1e-3)
        if artifact.layout.stock_loadable:
            assert torch.allclose(stock_model(tmp_path / "out")(ids).logits, expected, atol=1e-3)
        else:
            with pytest.raises((RuntimeError, AttributeError)):
                stock_model(tmp_path / "out")
    assert artifact.layout.stock_loadable == (symmetric and rank == 0)
    loader = "stock transformers" if artifact.layout.stock_loadable else "our loader"
    assert any(f"reloaded with {loader}" in note for note in report.notes)


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_experts_transposed_weights_and_encoders_have_budgets_too(name: str, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)

    report = compress(source, budgeted(target_bits=4.3), tmp_path / "out", calibration_text=text)

    assert report.budget is not None
    assert report.budget.weighting == "fisher"
    chosen = settings_of(tmp_path / "out")
    experts = {setting for layer, setting in chosen.items() if ".layers.0." in layer and ".experts." in layer}
    assert len(experts) == (name == "MixtralForCausalLM")


def test_learned_layers_have_settings_of_their_own(tmp_path: Path, text: Path, source: Path) -> None:
    quantizer = {"kind": "learned", "iterations": 4, "arithmetic": "float32"}

    report = compress(
        source, budgeted(changes={"quantizer": quantizer, "rank": 0}), tmp_path / "out", calibration_text=text
    )

    assert len(set(settings_of(tmp_path / "out").values())) > 1
    assert all(layer.learning is not None for layer in report.layers)


def test_the_powers_of_two_of_mxint_have_a_budget_too(tmp_path: Path, text: Path, source: Path) -> None:
    report = compress(source, budgeted("srr-max", target_bits=6.0, ranks=[2]), tmp_path / "out", calibration_text=text)

    assert report.recipe.rank == 2
    assert len(set(settings_of(tmp_path / "out").values())) > 1


def test_a_size_counts_the_tensors_that_are_kept(tmp_path: Path, text: Path, source: Path) -> None:
    by_bits = compress(source, budgeted(), tmp_path / "bits", calibration_text=text)

    by_size = compress(
        source,
        budgeted(target_bits=None, target_size_bytes=by_bits.size_bytes.compressed),
        tmp_path / "size",
        calibration_text=text,
    )

    assert by_size.size_bytes.compressed == by_bits.size_bytes.compressed
    assert settings_of(tmp_path / "size") == settings_of(tmp_path / "bits")


def test_the_recipe_of_the_artifact_is_the_one_that_was_asked_for(tmp_path: Path, text: Path, source: Path) -> None:
    recipe = budgeted("srr-gptq", ranks=[0], target_bits=3.9)

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)

    assert Recipe.model_validate_json((tmp_path / "out" / "recipe.json").read_text()) == recipe
    assert report.recipe.rank == 0
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_text()) == report


def test_another_target_takes_the_scores_of_an_earlier_search(
    tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress(source, budgeted(), tmp_path / "first", calibration_text=text)
    anew = compress(source, budgeted(target_bits=3.6), tmp_path / "anew", calibration_text=text)

    def fail(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(budgeting._Scorer, "table", fail)
    report = compress(
        source,
        budgeted(target_bits=3.6),
        tmp_path / "second",
        calibration_text=text,
        scores=tmp_path / "first" / "budget.json",
    )

    weights = "model-00001-of-00001.safetensors"
    assert (tmp_path / "second" / weights).read_bytes() == (tmp_path / "anew" / weights).read_bytes()
    assert report.budget is not None
    assert anew.budget is not None
    assert report.budget.settings == anew.budget.settings


def test_scores_of_another_model_or_none_at_all_are_made_anew(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, budgeted(), tmp_path / "first", calibration_text=text)
    table = json.loads((tmp_path / "first" / "budget.json").read_text())
    ScoreTable.model_validate(table)
    table["made_from"]["source"] = "another"
    for layer in table["layers"]:
        for score in layer["scores"]:
            score["cost"] = 0.0
    (tmp_path / "other.json").write_text(json.dumps(table))
    (tmp_path / "damaged.json").write_text("{")

    for number, file in enumerate(("other.json", "damaged.json")):
        compress(source, budgeted(), tmp_path / f"{number}", calibration_text=text, scores=tmp_path / file)
        assert settings_of(tmp_path / f"{number}") == settings_of(tmp_path / "first")


@pytest.mark.parametrize("units", [1, 4, 6, 9])
def test_a_search_that_was_stopped_ends_with_the_same_bits(
    units: int, tmp_path: Path, text: Path, source: Path
) -> None:
    compress(source, budgeted(), tmp_path / "whole", calibration_text=text)
    seen: list[Progress] = []
    with pytest.raises(StopRequested):
        compress(
            source,
            budgeted(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=seen.append,
            should_stop=lambda: (
                sum(1 for one in seen if one.stage in ("search", "compress") and one.completed) >= units
            ),
        )
    assert (tmp_path / "out.partial" / "budget.json").exists() == (units > 6)

    compress(source, budgeted(), tmp_path / "out", calibration_text=text)

    for name in ("model-00001-of-00001.safetensors", "config.json", "budget.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"target_bits": 1.0}, "below the"),
        ({"target_bits": 32.0}, "as large as they are in the source"),
        ({"target_bits": None, "target_size_bytes": 100}, "not compressed"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused_and_leaves_no_artifact(
    budget: dict[str, Any], words: str, tmp_path: Path, text: Path, source: Path
) -> None:
    with pytest.raises(RecipeError, match=words):
        compress(source, budgeted(**budget), tmp_path / "out", calibration_text=text)

    assert not (tmp_path / "out").exists()


def test_a_target_divergence_is_met_as_it_is_measured(tmp_path: Path, text: Path, source: Path) -> None:
    target = 1e-6
    recipe = budgeted(target_bits=None, target_kl=target)

    report = compress(source, recipe, tmp_path / "out", calibration_text=text, evaluation_text=text)

    assert report.budget is not None
    assert report.budget.probed_divergence is not None
    assert target / 2 < report.budget.probed_divergence <= target
    table = ScoreTable.model_validate(json.loads((tmp_path / "out" / "budget.json").read_text()))
    assert 1 <= len(table.probes) <= budgeting.PROBES
    found = next(row for row in report.measurements if row.evaluator == "divergence")
    # The texts and windows are the same; so small a divergence has few digits in float32.
    assert found.compressed == pytest.approx(report.budget.probed_divergence, rel=0.2)


def test_a_target_divergence_needs_a_head(tmp_path: Path, text: Path) -> None:
    masked = build_checkpoint(tmp_path / "masked", "BertForMaskedLM", dtype=torch.float32)
    source = tmp_path / "source"
    transformers.BertModel.from_pretrained(masked).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)

    with pytest.raises(RecipeError, match="BertModel has no head that predicts tokens"):
        compress(source, budgeted(target_bits=None, target_kl=0.1), tmp_path / "out", calibration_text=text)


def test_a_budget_for_an_encoder_decoder_is_refused_before_anything_is_read(tmp_path: Path, text: Path) -> None:
    source, stages = tmp_path / "source", set()
    config = transformers.T5Config(
        vocab_size=259, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)

    inspected = inspect_model(source, CheckpointReader(source).entries, budgeted(), text_bytes=10_000)
    with pytest.raises(RecipeError, match="T5ForConditionalGeneration is an encoder-decoder; what a layer"):
        compress(
            source,
            budgeted(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=lambda progress: stages.add(progress.stage.value),
        )

    assert "T5ForConditionalGeneration is an encoder-decoder; what a layer" in inspected.reason
    assert stages <= {"plan"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda rows: rows + rows, "twice"),
        (lambda rows: [{"quantizer": {"kind": "mxint"}, "modules": ["x"]}], "stored differently"),
        (lambda rows: [{"quantizer": {"kind": "nothing"}, "modules": []}], "no list of quantizers"),
        (lambda rows: 3, "no list of quantizers"),
        (lambda rows: [], "needs"),
    ],
)
def test_a_damaged_list_of_settings_is_found(damage: Any, words: str, tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, budgeted(), tmp_path / "out", calibration_text=text)
    file = tmp_path / "out" / "config.json"
    config = json.loads(file.read_text())
    entry = config["quantization_config"]["srr"]
    entry["mixed"] = damage(entry["mixed"])
    file.write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match=words):
        open_artifact(tmp_path / "out")


def test_exports_write_a_mix_as_it_is_or_refuse_it(tmp_path: Path, text: Path, source: Path) -> None:
    recipe = budgeted(target_bits=4.2, changes={"quantizer.grid.symmetric": True})
    compress(source, recipe, tmp_path / "out", calibration_text=text)

    with pytest.raises(ExportError, match="bits and groups of their own"):
        export(tmp_path / "out", tmp_path / "gptq", GPTQFormatSpec())
    export(tmp_path / "out", tmp_path / "merged", MergedSpec(dtype="float32"))

    merged = load_file(tmp_path / "merged" / "model-00001-of-00001.safetensors")
    view = DenseView(open_artifact(tmp_path / "out"))
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.allclose(merged[name], view[name], atol=1e-6)
