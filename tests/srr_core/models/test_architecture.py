"""How long a text a model takes, from its configuration and its embeddings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from srr_core.errors import UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
from tests.pico import build_checkpoint, byte_tokenizer, write_text

TRANSFORMER: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
}
LIMITED: dict[str, tuple[str, dict[str, Any], int]] = {
    "MPNetForMaskedLM": ("MPNetConfig", TRANSFORMER, 18),
    "XLMRobertaForMaskedLM": ("XLMRobertaConfig", {**TRANSFORMER, "pad_token_id": 0}, 19),
    "MptForCausalLM": (
        "MptConfig",
        {"vocab_size": 259, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 20},
        20,
    ),
}


@pytest.mark.parametrize("name", LIMITED)
def test_windows_are_cut_to_all_the_positions_a_model_has(name: str, tmp_path: Path) -> None:
    config, fields, longest = LIMITED[name]
    torch.manual_seed(0)
    source = tmp_path / "source"
    getattr(transformers, name)(getattr(transformers, config)(**fields)).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)
    recipe = override(PRESETS["srr"], {"rank": 4, "calibration.num_sequences": 4})

    report = compress(source, recipe, tmp_path / "out", calibration_text=write_text(tmp_path / "text.txt"))

    assert report.calibration.sequence_length == longest
    assert f"calibration windows were shortened from 2048 to the model's {longest} tokens" in report.notes


@pytest.mark.parametrize(
    ("name", "config", "fields", "expected"),
    [
        ("BertLMHeadModel", "BertConfig", {}, False),
        ("BertLMHeadModel", "BertConfig", {"is_decoder": True}, True),
        ("RobertaForCausalLM", "RobertaConfig", {}, False),
        ("BertForMaskedLM", "BertConfig", {}, False),
        ("GPT2LMHeadModel", "GPT2Config", {"n_head": 4}, True),
        ("LlamaForCausalLM", "LlamaConfig", {}, True),
    ],
)
def test_only_a_model_that_does_not_see_the_next_token_predicts_it(
    name: str, config: str, fields: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    made = getattr(transformers, config)(**TRANSFORMER, **fields, architectures=[name])
    made.save_pretrained(tmp_path)
    assert Architecture(tmp_path).is_causal_lm is expected


@pytest.mark.parametrize("value", [1, 0, -3])
def test_a_model_without_room_for_two_tokens_is_refused(value: int, tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "max_position_embeddings": value}))
    with pytest.raises(UnsupportedModelError, match=f"max_position_embeddings as {value}, which leaves no room"):
        compress(source, PRESETS["srr"], tmp_path / "out", calibration_text=write_text(tmp_path / "text.txt"))
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("value", ["64", 64.5, True, [64]])
def test_a_length_that_is_no_whole_number_is_refused(value: object, tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "max_position_embeddings": value}))
    with pytest.raises(UnsupportedModelError, match="max_position_embeddings"):
        Architecture(source)


def test_a_length_that_the_class_does_not_check_is_refused(tmp_path: Path) -> None:
    architecture = Architecture(build_checkpoint(tmp_path / "source"))
    object.__setattr__(architecture.config, "max_position_embeddings", 64.5)
    with pytest.raises(UnsupportedModelError, match=r"max_position_embeddings as 64\.5"):
        _ = architecture.max_sequence_length


def test_experts_that_exceed_the_memory_are_built_without_any(tmp_path: Path) -> None:
    config = transformers.DeepseekV3Config(num_hidden_layers=4, n_routed_experts=4096)  # 480 GB in float32 a layer
    config.architectures = ["DeepseekV3ForCausalLM"]
    config.save_pretrained(tmp_path)

    model = Architecture(tmp_path).model

    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} == {"cpu"}
