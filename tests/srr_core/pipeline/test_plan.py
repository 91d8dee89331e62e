"""Models that are refused before a weight is read, because no loader would give back what was computed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.formats.adapter import AdapterTargets
from srr_core.models.architecture import Architecture
from srr_core.models.layers import plan_layers
from srr_core.pipeline import compress
from srr_core.pipeline.plan import choose_targets
from srr_core.recipe import PRESETS, override
from tests.pico import build_checkpoint, byte_tokenizer, write_text

_TINY: dict[str, Any] = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
_VISION = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3}


def _shared(*projections: str) -> list[str]:
    return [f"model.layers.{index}.mlp.shared_experts.{name}" for index in range(2) for name in projections]


LOW_RANK: dict[str, tuple[Any, AdapterTargets]] = {
    "DeepseekV3ForCausalLM": (
        transformers.DeepseekV3Config(
            **_TINY,
            **_EXPERTS,
            num_attention_heads=4,
            num_key_value_heads=4,
            q_lora_rank=32,
            kv_lora_rank=32,
            v_head_dim=8,
            first_k_dense_replace=0,
        ),
        AdapterTargets(by_weight=frozenset(_shared("down_proj", "gate_proj", "up_proj"))),
    ),
    "Mamba2ForCausalLM": (
        transformers.Mamba2Config(**_TINY, state_size=8, num_heads=8, head_dim=8, n_groups=1),
        AdapterTargets(bare=frozenset({"backbone.layers.0.mixer.out_proj", "backbone.layers.1.mixer.out_proj"})),
    ),
    "LlavaForConditionalGeneration": (
        transformers.LlavaConfig(
            text_config={**_TINY, "model_type": "llama", "intermediate_size": 64, "num_attention_heads": 4},
            vision_config={**_VISION, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        ),
        AdapterTargets(),
    ),
}
"""What PEFT needs to be told, asked of PEFT; a version that does better shows here."""


@pytest.mark.parametrize("name", LOW_RANK)
def test_every_low_rank_correction_that_stock_loaders_can_attach_is_attached(name: str, tmp_path: Path) -> None:
    config, wanted = LOW_RANK[name]
    getattr(transformers, name)(config).save_pretrained(tmp_path / "source")
    byte_tokenizer().save_pretrained(tmp_path / "source")
    architecture, weights = Architecture(tmp_path / "source"), CheckpointReader(tmp_path / "source")
    layers = plan_layers(architecture, weights.entries)
    recipe = override(PRESETS["srr"], {"rank": 4, "calibration": {"num_sequences": 2, "sequence_length": 16}})

    assert choose_targets(architecture, layers, recipe) == wanted
    assert choose_targets(architecture, layers, PRESETS["weight-only"]) == AdapterTargets()
    assert not any("lora" in parameter for parameter, _ in architecture.model.named_parameters())

    # The run itself loads the artifact with stock transformers and compares its outputs with Q + L·R.
    text = write_text(tmp_path / "text.txt")
    report = compress(tmp_path / "source", recipe, tmp_path / "out", calibration_text=text)
    ranks = {layer.name: layer.rank for layer in report.layers}
    assert {name for name, rank in ranks.items() if rank == 0} == wanted.bare
    assert any("without L·R" in note for note in report.notes) == bool(wanted.bare)


@pytest.mark.parametrize("tensor", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_tensor_of_another_shape_than_the_configuration_says_is_refused_by_name(tensor: str, tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    needed = list(tensors[tensor].shape)
    tensors[tensor] = torch.zeros(needed[0] - 1, *needed[1:])
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    text = write_text(tmp_path / "text.txt")

    with pytest.raises(CheckpointError) as caught:
        compress(source, PRESETS["srr"], tmp_path / "out", calibration_text=text)

    found = [needed[0] - 1, *needed[1:]]
    assert str(caught.value) == f"model.safetensors: tensor '{tensor}' has shape {found}, the model needs {needed}"
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("recipe", ["srr", "weight-only"])
@pytest.mark.parametrize("is_missing", [True, False], ids=["missing", "other-shape"])
@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("MixtralForCausalLM", "model.layers.1.block_sparse_moe.experts.1.w3.weight"),
        ("Qwen3MoeForCausalLM", "model.layers.0.mlp.experts.2.down_proj.weight"),
    ],
)
def test_an_expert_that_does_not_fit_is_refused_by_name(
    name: str, tensor: str, is_missing: bool, recipe: str, tmp_path: Path
) -> None:
    source = build_checkpoint(tmp_path / "source", name)
    tensors = load_file(source / "model.safetensors")
    found = tensors.pop(tensor)
    if not is_missing:
        tensors[tensor] = found[:-1].contiguous()
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(CheckpointError) as caught:
        compress(source, PRESETS[recipe], tmp_path / "out", calibration_text=write_text(tmp_path / "text.txt"))

    rows, columns = found.shape
    wrong = (
        f"model.safetensors: tensor '{tensor}' has shape [{rows - 1}, {columns}], the model needs [{rows}, {columns}]"
    )
    assert str(caught.value) == (f"no file of the checkpoint holds tensor '{tensor}'" if is_missing else wrong)


def test_code_of_a_repository_is_no_obstacle_where_transformers_has_the_class(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    stranger = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    (source / "config.json").write_text(json.dumps({**config, "auto_map": stranger}))
    (source / "modeling_x.py").write_text("raise SystemExit('code of a repository was run')")
    (source / "configuration_x.py").write_text("raise SystemExit('code of a repository was run')")
    recipe = override(PRESETS["srr"], {"rank": 4, "calibration": {"num_sequences": 2, "sequence_length": 16}})

    compress(source, recipe, tmp_path / "out", calibration_text=write_text(tmp_path / "text.txt"))

    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert not list((tmp_path / "out").glob("*.py"))
