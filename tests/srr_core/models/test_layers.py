"""What is compressed, what is kept and why, and what is refused before any weight is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.formats.artifact import open_artifact
from srr_core.models.architecture import Architecture
from srr_core.models.layers import LayerPlan, plan_layers
from srr_core.pipeline import compress, inspect_model
from srr_core.pipeline.plan import require_share
from srr_core.pipeline.source import open_source
from srr_core.recipe import PRESETS, override
from srr_core.runtime import load
from srr_core.verification.reload import dense_model
from tests.pico import build_checkpoint, build_model, byte_tokenizer, read_config, write_text


def _plan(directory: Path) -> LayerPlan:
    return plan_layers(Architecture(directory), CheckpointReader(directory).entries)


def _rewrite(directory: Path, **changes: Any) -> Path:
    config = {**read_config(directory), **changes}
    (directory / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return directory


def test_every_linear_of_the_blocks_is_compressed_and_the_rest_kept(tmp_path: Path) -> None:
    plan = _plan(build_checkpoint(tmp_path / "source"))
    assert len(plan.layers) == 14
    assert plan.kept["model.embed_tokens.weight"] == "outside the repeated blocks"
    assert plan.kept["lm_head.weight"] == "outside the repeated blocks"
    assert plan.kept["model.layers.0.self_attn.q_proj.bias"] == "not a matrix"
    assert plan.kept["model.layers.0.input_layernorm.weight"] == "not a matrix"


def test_every_tensor_is_either_compressed_or_kept(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source", "Qwen3MoeForCausalLM")
    plan = _plan(directory)
    compressed = {layer.tensor for layer in plan.layers}
    assert compressed.isdisjoint(plan.kept)
    assert compressed | set(plan.kept) == set(CheckpointReader(directory))


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "Qwen3MoeForCausalLM"])
def test_experts_are_compressed_one_by_one_and_routers_kept(name: str, tmp_path: Path) -> None:
    plan = _plan(build_checkpoint(tmp_path / "source", name))
    experts = [layer for layer in plan.layers if layer.expert is not None]
    assert len(experts) == 2 * 3 * 3
    routers = [tensor for tensor, reason in plan.kept.items() if reason == "router of a mixture of experts"]
    assert len(routers) == 2


STACKED = {"GptOss": "model.layers.0.mlp.experts.", "GraniteMoe": "model.layers.0.block_sparse_moe.experts."}
"""Gates between ups, biases and turned matrices; and plain ones, of a class whose loaders take no single experts."""


@pytest.mark.parametrize("name", STACKED)
def test_experts_that_share_one_tensor_are_compressed_one_by_one_in_our_own_layout(name: str, tmp_path: Path) -> None:
    source = _stacked_checkpoint(name, tmp_path / "source")
    recipe = override(PRESETS["srr"], {"rank": 4, "calibration.num_sequences": 2, "calibration.sequence_length": 16})

    # The run itself loads the artifact and compares its outputs with Q + L·R.
    report = compress(source, recipe, tmp_path / "out", calibration_text=write_text(tmp_path / "text.txt"))

    experts = [layer for layer in report.layers if ".expert." in layer.name]
    assert len(experts) == 2 * 2 * 3
    assert experts[0].name.startswith(STACKED[name])
    assert {layer.rank for layer in experts} == {4}
    assert not [tensor for tensor in report.kept if tensor.name.endswith(("gate_up_proj", "down_proj"))]
    model = load(tmp_path / "out", dtype=torch.float32)
    merged = dense_model(open_artifact(tmp_path / "out"))
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-4)


def test_stacked_experts_that_loaders_take_one_by_one_are_written_that_way(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", "Qwen3MoeForCausalLM")
    single = _plan(source)
    state = build_model("Qwen3MoeForCausalLM").to(torch.bfloat16).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, source / "model.safetensors")
    assert [len(entry.shape) for entry in CheckpointReader(source).entries.values()].count(3) == 2 * 2

    reader, _ = open_source(source, Architecture(source))
    stacked = plan_layers(Architecture(source), reader.entries)

    assert {(layer.name, layer.shape) for layer in stacked.layers} == {(one.name, one.shape) for one in single.layers}
    fused = state["model.layers.1.mlp.experts.gate_up_proj"]
    assert torch.equal(reader["model.layers.1.mlp.experts.2.up_proj.weight"], fused[2, 32:])


@pytest.mark.parametrize(("min_share", "is_taken"), [(0.5, False), (0.2, True)])
def test_a_model_of_whose_blocks_little_is_compressed_is_refused_unless_asked_for(
    min_share: float, is_taken: bool, tmp_path: Path
) -> None:
    source = build_checkpoint(tmp_path / "source")
    entries = CheckpointReader(source).entries
    plan = plan_layers(Architecture(source), entries)
    kept = [layer for layer in plan.layers if "mlp" in layer.name]
    blocks = tuple(
        replace(block, layers=tuple(layer for layer in block.layers if layer not in kept)) for block in plan.blocks
    )
    reasons = {layer.tensor: "kept for this test" for layer in kept}
    little = replace(plan, blocks=blocks, kept={**plan.kept, **reasons})
    recipe = override(PRESETS["srr"], {"min_share": min_share})

    if is_taken:
        require_share(little, entries, recipe)
    else:
        with pytest.raises(
            UnsupportedModelError, match=r"only 3\d % of the bytes.*kept for this test.*min_share to 0\.3"
        ):
            require_share(little, entries, recipe)


def test_the_share_of_all_bytes_is_told_and_a_large_vocabulary_is_no_obstacle(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", vocab_size=1024, tie_word_embeddings=True)
    found = inspect_model(source, CheckpointReader(source).entries, PRESETS["srr"], text_bytes=10_000)
    assert found.is_supported
    assert 0.3 < found.compressed_share < 0.4


def _stacked_checkpoint(name: str, directory: Path) -> Path:
    config = getattr(transformers, f"{name}Config")(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=3,
        num_experts_per_tok=2,
    )
    torch.manual_seed(0)
    getattr(transformers, f"{name}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def test_conv1d_shapes_are_turned_to_out_in(tmp_path: Path) -> None:
    plan = _plan(build_checkpoint(tmp_path / "source", "GPT2LMHeadModel"))
    fused = next(layer for layer in plan.layers if layer.name.endswith("h.0.attn.c_attn"))
    assert fused.is_transposed
    assert fused.shape == (96, 32)
    assert not plan.all_linear


def test_sharded_sources_are_planned_like_single_files(tmp_path: Path) -> None:
    single = _plan(build_checkpoint(tmp_path / "single"))
    sharded = _plan(build_checkpoint(tmp_path / "sharded", max_shard_size="20KB"))
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    assert [layer.name for layer in single.layers] == [layer.name for layer in sharded.layers]


def test_integer_weights_are_kept_with_the_reason(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source")
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(48, 32, dtype=torch.int8)
    save_file(tensors, directory / "model.safetensors")
    assert _plan(directory).kept["model.layers.0.mlp.up_proj.weight"] == "stored as int8"


REFUSED = {
    "remote code": ({"architectures": ["X"], "auto_map": {"AutoConfig": "configuration_x.X"}}, "which is never run"),
    "quantized already": ({"quantization_config": {"quant_method": "gptq"}}, r"quantized already \(gptq\)"),
    "quantized by nothing": ({"quantization_config": {}}, "names no method"),
    "quantized in a word": ({"quantization_config": "awq"}, r"quantized already \(awq\)"),
    "no architecture": ({"architectures": None}, "names no architecture"),
    "unknown class": ({"architectures": ["TotallyNewForCausalLM"]}, "is not a class of transformers"),
    "not a model": ({"architectures": ["AutoConfig"]}, "is not a class of transformers"),
    "bad size": ({"hidden_size": "many"}, "hidden_size as 'many'"),
    "bad field": ({"hidden_act": "no-such-function"}, "cannot be built from"),
    "class and config differ": ({"architectures": ["ViTForImageClassification"]}, "ViTForImageClassification"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_compressed_is_refused_by_its_config_alone(kind: str, tmp_path: Path) -> None:
    changes, message = REFUSED[kind]
    directory = _rewrite(build_checkpoint(tmp_path / "source"), **changes)
    (directory / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match=message):
        Architecture(directory)


def test_a_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON"):
        Architecture(tmp_path)


def test_a_checkpoint_without_a_block_is_refused(tmp_path: Path) -> None:
    directory = _rewrite(build_checkpoint(tmp_path / "source"), num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"no tensor of model\.layers\.2"):
        _plan(directory)
