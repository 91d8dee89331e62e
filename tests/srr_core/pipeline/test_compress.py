"""The use case as a user of the library meets it: every architecture, every recipe, every refusal."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from srr_core.errors import (
    CalibrationError,
    CheckpointError,
    DestinationError,
    EvaluationError,
    RecipeError,
    SrrError,
    UnsupportedModelError,
    VerificationError,
)
from srr_core.pipeline import compress
from srr_core.pipeline.assemble import assemble
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.report import Report
from tests.pico import ARCHITECTURES, WINDOW, build_checkpoint, has_option, write_text

# PEFT 0.21 says so of every adapter on fused experts, and loads it.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")

WINDOWS = {
    "calibration": {"num_sequences": 8, "sequence_length": WINDOW, "batch_size": 3},
    "evaluation": {"num_sequences": 3, "sequence_length": WINDOW, "batch_size": 2},
}

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def small(name: str = "srr", **changes: Any) -> Recipe:
    recipe = override(PRESETS[name], WINDOWS)
    return override(recipe, {"rank": 4 if recipe.rank else 0, **changes})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source")


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("shards", ["5GB", "20KB"], ids=["single-file", "sharded"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_compressed_verified_and_measured(
    name: str, shards: str, tied: bool, tmp_path: Path, text: Path
) -> None:
    is_sharded = shards == "20KB"
    # A Latin square: the four runs of an architecture meet every dtype, and biases where it has the option.
    dtype = DTYPES[(list(ARCHITECTURES).index(name) + 2 * is_sharded + tied) % len(DTYPES)]
    has_biases = is_sharded == tied
    source = build_checkpoint(
        tmp_path / "source",
        name,
        dtype=dtype,
        max_shard_size=shards,
        tie_word_embeddings=tied,
        **({"attention_bias": has_biases} if has_option(name, "attention_bias") else {}),
    )
    files = [load_file(file) for file in source.glob("*.safetensors")]

    report = compress(source, small(), tmp_path / "out", calibration_text=text, evaluation_text=text)

    assert (len(files) > 1) == is_sharded
    assert report.source.dtype == str(dtype).removeprefix("torch.")
    assert report.size_bytes.source == sum(tensor.nbytes for file in files for tensor in file.values())
    assert report.layers
    assert all(layer.output_error < layer.output_error_quantized_only for layer in report.layers)
    assert all(layer.correction_ratio <= 1 + 1e-2 for layer in report.layers)
    is_causal = "ForCausalLM" in name or "LMHead" in name
    assert [row.evaluator for row in report.measurements] == ["divergence", "divergence", "perplexity"] * is_causal
    assert not (tmp_path / "out.partial").exists()
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_text()) == report


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_runs(name: str, tmp_path: Path, text: Path, source: Path) -> None:
    report = compress(source, small(name), tmp_path / "out", calibration_text=text, evaluation_text=text)
    assert report.recipe.name == name
    assert 0 < report.mean_output_error < 1
    assert report.bits_per_weight.total == pytest.approx(
        report.bits_per_weight.quantized + report.bits_per_weight.low_rank
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shards", ["5GB", "20KB"])
def test_source_dtypes_and_shards_make_no_difference_to_what_works(
    dtype: torch.dtype, shards: str, tmp_path: Path, text: Path
) -> None:
    source = build_checkpoint(tmp_path / "source", dtype=dtype, max_shard_size=shards)
    report = compress(source, small(), tmp_path / "out", calibration_text=text)
    assert report.source.dtype == str(dtype).removeprefix("torch.")
    assert report.size_bytes.source == sum(
        tensor.nbytes for file in source.glob("*.safetensors") for tensor in load_file(file).values()
    )


def test_stock_transformers_loads_the_result(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, small(), tmp_path / "out", calibration_text=text)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        original = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)(ids).logits
        loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(ids).logits
    relative = float((loaded - original).norm() / original.norm())
    assert 0 < relative < 0.5


def test_tokenizer_and_licence_travel_and_nothing_else_does(tmp_path: Path, text: Path, source: Path) -> None:
    (source / "LICENSE").write_text("terms")
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "pytorch_model.bin").write_bytes(b"x")
    compress(source, small(), tmp_path / "out", calibration_text=text)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"LICENSE", "tokenizer.json", "tokenizer_config.json", "config.json", "report.json", "recipe.json"} <= names
    assert not names & {"modeling_evil.py", "pytorch_model.bin"}


def test_progress_counts_every_layer_and_every_stage(tmp_path: Path, text: Path, source: Path) -> None:
    seen = []
    compress(source, small(), tmp_path / "out", calibration_text=text, evaluation_text=text, on_progress=seen.append)
    assert list(dict.fromkeys(p.stage for p in seen)) == [
        "plan",
        "compress",
        "calibrate",
        "assemble",
        "verify",
        "evaluate",
    ]
    calibrated = [(p.completed, p.total, p.block) for p in seen if p.stage == "calibrate"]
    assert calibrated == [(0, 2, None), (1, 2, 0), (2, 2, 1)]
    layers = [p for p in seen if p.stage == "compress" and p.layer]
    assert [p.completed for p in layers] == list(range(1, 15))
    assert all(p.total == 14 and p.metrics["output_error"] > 0 for p in layers)
    assert {p.block for p in layers} == {0, 1}


REFUSALS: dict[str, tuple[type[SrrError], str]] = {
    "destination exists": (DestinationError, "exists already"),
    "empty text": (CalibrationError, "0 tokens"),
    "short evaluation": (EvaluationError, "fewer than one window"),
    "unknown device": (RecipeError, "unknown device 'tpu'"),
    "pickle only": (CheckpointError, "only safetensors"),
    "remote code": (UnsupportedModelError, "never run"),
    "a norm is missing": (CheckpointError, r"no file of the checkpoint holds tensor 'model\.norm\.weight'"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_bad_input_is_refused_before_anything_is_written(kind: str, tmp_path: Path, text: Path, source: Path) -> None:
    error, message = REFUSALS[kind]
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    destination = tmp_path / ("source" if kind == "destination exists" else "out")
    if kind == "pickle only":
        (source / "model.safetensors").rename(source / "pytorch_model.bin")
    if kind == "a norm is missing":
        tensors = load_file(source / "model.safetensors")
        del tensors["model.norm.weight"]
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    if kind == "remote code":
        config = {"architectures": ["Y"], "auto_map": {"AutoModel": "x.Y"}}
        (source / "config.json").write_text(json.dumps(config))
    before = sorted(path.name for path in tmp_path.iterdir())

    with pytest.raises(error, match=message):
        compress(
            source,
            small(),
            destination,
            calibration_text=empty if kind == "empty text" else text,
            evaluation_text=empty if kind == "short evaluation" else text,
            device="tpu" if kind == "unknown device" else "cpu",
        )

    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_layer_of_zeros_is_compressed_to_zeros(tmp_path: Path, text: Path) -> None:
    def change(model: Any) -> None:
        model.model.layers[0].self_attn.v_proj.weight.zero_()

    source = build_checkpoint(tmp_path / "source", change=change)
    report = compress(source, small(), tmp_path / "out", calibration_text=text)
    zero = next(layer for layer in report.layers if layer.name.endswith("layers.0.self_attn.v_proj"))
    assert (zero.preserved_rank, zero.output_error) == (0, 0.0)


def test_a_block_that_does_not_divide_the_layer_is_padded(tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", intermediate_size=44)
    report = compress(source, small(), tmp_path / "out", calibration_text=text, evaluation_text=text)
    assert any(layer.shape == (32, 44) for layer in report.layers)


@pytest.mark.parametrize("recipe", ["gptq", "srr-gptq", "loftq", "srr-quip-sharp"])
@pytest.mark.parametrize("name", ["Qwen3MoeForCausalLM", "MixtralForCausalLM"])
def test_experts_in_our_own_layout_are_compressed_verified_and_measured(
    name: str, recipe: str, tmp_path: Path, text: Path
) -> None:
    source = build_checkpoint(tmp_path / "source", name)
    report = compress(source, small(recipe), tmp_path / "out", calibration_text=text, evaluation_text=text)
    assert any(".experts." in layer.name for layer in report.layers)
    assert any(note.startswith("reloaded with our loader") for note in report.notes)
    assert len(report.measurements) == 3


def test_a_rank_above_the_layer_is_clamped_and_noted(tmp_path: Path, text: Path, source: Path) -> None:
    report = compress(source, small(rank=40), tmp_path / "out", calibration_text=text)
    assert {layer.rank for layer in report.layers} == {16, 32}
    assert any("clamped" in note for layer in report.layers for note in layer.notes)
    assert any("is larger than the source" in note for note in report.notes)


def test_fewer_calibration_tokens_than_inputs_are_noted(tmp_path: Path, text: Path, source: Path) -> None:
    recipe = small(**{"calibration.num_sequences": 3})
    report = compress(source, recipe, tmp_path / "out", calibration_text=text)
    noted = {layer.shape[1] for layer in report.layers if any("calibrated on 48 tokens" in n for n in layer.notes)}
    assert noted == {64}
    assert {layer.shape[1] for layer in report.layers} == {32, 64}


def test_rank_zero_writes_no_adapter(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, small("weight-only"), tmp_path / "out", calibration_text=text)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_expert_without_tokens_is_compressed_and_noted(tmp_path: Path, text: Path) -> None:
    def change(model: Any) -> None:
        for layer in model.model.layers:
            # The largest of (s, 0, -s) is never the second.
            layer.mlp.gate.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]).expand(3, 32))

    source = build_checkpoint(tmp_path / "source", "MixtralForCausalLM", change=change, num_experts_per_tok=1)
    report = compress(source, small(), tmp_path / "out", calibration_text=text)
    silent = [layer for layer in report.layers if layer.calibration_tokens == 0]
    assert {layer.name.split(".experts.")[1][0] for layer in silent} == {"1"}
    assert all(any("no calibration token" in note for note in layer.notes) for layer in silent)


def test_a_model_too_large_to_reload_still_has_its_structure_checked(
    tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def incomplete(plan: RunPlan, work: WorkFolder) -> int:
        total = assemble(plan, work)
        file = work.artifact / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "layers_to_transform": [0]}))
        return total

    module = sys.modules["srr_core.pipeline.compress"]
    monkeypatch.setattr(sys.modules["srr_core.pipeline.judging"], "may_reload", lambda _: False)
    report = compress(source, small(), tmp_path / "whole", calibration_text=text)
    monkeypatch.setattr(module, "assemble", incomplete)

    with pytest.raises(VerificationError, match=r"model\.layers\.1\.mlp\.down_proj\.lora_A\.weight' belongs to no"):
        compress(source, small(), tmp_path / "out", calibration_text=text)

    assert any("not tried" in note and "has its place" in note for note in report.notes)


def test_the_same_run_gives_the_same_bits(tmp_path: Path, text: Path, source: Path) -> None:
    for name in ("first", "second"):
        compress(source, small(), tmp_path / name, calibration_text=text, model_id="org/model")
    for file in ("model-00001-of-00001.safetensors", "adapter_model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "OPTForCausalLM", "MixtralForCausalLM"])
def test_lqer_does_not_depend_on_the_batch_size(name: str, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name)
    for batch_size in (1, 5):
        recipe = small("lqer", **{"calibration.batch_size": batch_size})
        compress(source, recipe, tmp_path / str(batch_size), calibration_text=text, model_id="org/model")
    first, second = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("1", "5"))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_the_source_is_not_modified(tmp_path: Path, text: Path, source: Path) -> None:
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    compress(source, small(), tmp_path / "out", calibration_text=text)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before


def test_a_damaged_artifact_is_not_published(
    tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaging(plan: RunPlan, work: WorkFolder) -> int:
        total = assemble(plan, work)
        file = work.artifact / "adapter_model.safetensors"
        tensors = load_file(file)
        name = sorted(tensors)[0]
        tensors[name][0, 0] += 1
        save_file(tensors, file, metadata={"format": "pt"})
        return total

    # The package exports the function under the name of its module.
    monkeypatch.setattr(sys.modules["srr_core.pipeline.compress"], "assemble", damaging)
    with pytest.raises(SrrError, match="is not what was computed"):
        compress(source, small(), tmp_path / "out", calibration_text=text)
    assert not (tmp_path / "out").exists()
