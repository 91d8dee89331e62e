"""A damaged artifact is found before it is published, and the message says which file and tensor."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from srr_core.errors import VerificationError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.recipe import MXIntSpec, NormalFloatSpec
from srr_core.verification.reload import verify_logits, verify_structure
from srr_core.verification.verify import verify_artifact
from tests.srr_core.exporters.artifacts import (
    RANK,
    SHARD,
    TOKENS,
    build_artifact,
    edit_tensors,
    pico_bert,
    pico_llama,
    pico_moe,
)

UP = "model__layers__0__mlp__up_proj"


@pytest.fixture
def artifact(tmp_path):
    return build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))


def changed(artifact, **changes):
    edit_tensors(artifact.directory / SHARD, **changes)
    index = artifact.directory / "model.safetensors.index.json"
    names = load_file(artifact.directory / SHARD)
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, SHARD)}))


def tensor(artifact, key, file=SHARD):
    return load_file(artifact.directory / file)[key.replace("__", ".")]


def test_untouched_artifact_passes_layer_by_layer(artifact):
    seen = []
    verify_artifact(artifact.directory, artifact.expected, on_layer=seen.append)
    assert seen == [layer.module_name for layer in artifact.expected]


def test_artifact_without_an_adapter_passes(tmp_path):
    plain = build_artifact(tmp_path / "q", pico_llama(), MXIntSpec(num_bits=4), rank=0)
    verify_artifact(plain.directory, plain.expected)
    verify_logits(plain.directory, TOKENS)


def test_one_flipped_bit_of_the_codes_is_found(artifact):
    packed = tensor(artifact, f"{UP}__weight_packed")
    packed[3, 1] ^= 1 << 17
    changed(artifact, **{f"{UP}__weight_packed": packed})
    with pytest.raises(VerificationError, match=rf"{SHARD}: layer model\.layers\.0\.mlp\.up_proj"):
        verify_artifact(artifact.directory, artifact.expected)


def test_one_changed_factor_is_found(artifact):
    key = f"base_model__model__{UP}__lora_A__weight"
    right = tensor(artifact, key, ADAPTER_WEIGHTS)
    right[0, 0] += 1
    edit_tensors(artifact.directory / ADAPTER_WEIGHTS, **{key: right})
    with pytest.raises(VerificationError, match=r"model\.layers\.0\.mlp\.up_proj is not what was computed"):
        verify_artifact(artifact.directory, artifact.expected)


def test_dense_weight_beside_its_packed_form_is_found(artifact):
    changed(artifact, **{f"{UP}__weight": torch.zeros(96, 64)})
    with pytest.raises(VerificationError, match=rf"{SHARD}: dense tensor 'model\.layers\.0\.mlp\.up_proj\.weight'"):
        verify_artifact(artifact.directory, artifact.expected)


def test_missing_adapter_is_found(artifact):
    (artifact.directory / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(VerificationError, match=r"adapter_model\.safetensors is missing"):
        verify_artifact(artifact.directory, artifact.expected)


def test_missing_factor_is_found(artifact):
    edit_tensors(artifact.directory / ADAPTER_WEIGHTS, **{f"base_model__model__{UP}__lora_B__weight": None})
    with pytest.raises(VerificationError, match=r"up_proj\.lora_B\.weight' is missing"):
        verify_artifact(artifact.directory, artifact.expected)


def test_scaling_other_than_one_is_found(artifact):
    file = artifact.directory / ADAPTER_CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 8}))
    with pytest.raises(VerificationError, match=r"adapter_config\.json: r and lora_alpha are 4 and 8"):
        verify_artifact(artifact.directory, artifact.expected)


def test_layer_that_was_never_written_is_found(artifact):
    unwritten = dataclasses.replace(artifact.expected[0], module_name="model.layers.9.mlp.up_proj")
    with pytest.raises(VerificationError, match=r"model\.layers\.9\.mlp\.up_proj was compressed but is not"):
        verify_artifact(artifact.directory, [*artifact.expected, unwritten])


def test_truncated_shard_is_found(artifact):
    shard = artifact.directory / SHARD
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(VerificationError, match=rf"{SHARD}: .*truncated"):
        verify_artifact(artifact.directory, artifact.expected)


def edit_json(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_model_that_ignores_its_adapter_fails_the_logit_check(artifact):
    # An adapter that waits for a token of the prompt which never comes.
    edit_json(artifact.directory / ADAPTER_CONFIG, alora_invocation_tokens=[95])
    with pytest.raises(VerificationError, match=r"differs from Q \+ L·R"):
        verify_logits(artifact.directory, TOKENS)


def test_factor_that_the_loaded_model_does_not_read_is_named(artifact):
    edit_json(artifact.directory / ADAPTER_CONFIG, layers_to_transform=[0])
    with pytest.raises(VerificationError, match=r"does not read model\.layers\.1\.mlp\.down_proj\.lora_A"):
        verify_logits(artifact.directory, TOKENS)


@pytest.mark.parametrize("spec", [MXIntSpec(num_bits=4), NormalFloatSpec(num_bits=4)], ids=["stock", "own layout"])
def test_layer_that_the_loaded_model_does_not_read_is_named(tmp_path, spec):
    plain = build_artifact(tmp_path / "q", pico_llama(biases=False), spec, rank=0)
    edit_json(plain.directory / "config.json", num_hidden_layers=1)
    with pytest.raises(VerificationError, match=r"model\.layers\.1\.mlp\.down_proj"):
        verify_logits(plain.directory, TOKENS)


@pytest.mark.parametrize("model", [pico_llama(), pico_bert(), pico_moe("mixtral")], ids=type)
@pytest.mark.parametrize("rank", [0, RANK])
def test_structure_of_an_untouched_artifact_passes(tmp_path, model, rank):
    verify_structure(build_artifact(tmp_path / "a", model, MXIntSpec(num_bits=3), rank=rank).directory)


STRUCTURE = {
    "factors without a layer": (
        ADAPTER_CONFIG,
        {"layers_to_transform": [0]},
        r"tensor 'model\.layers\.1\.mlp\.down_proj\.lora_A\.weight' belongs to no layer",
    ),
    "a place without a factor": (
        ADAPTER_CONFIG,
        {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]},
        r"no tensor of the adapter fills 'lm_head\.lora_A\.weight'",
    ),
    "factors of another shape": (
        "config.json",
        {"intermediate_size": 128},
        r"'model\.layers\.0\.mlp\.down_proj\.lora_A\.weight' has shape \[4, 96\], its layer needs \[4, 128\]",
    ),
    "layers without a module": (
        "config.json",
        {"num_hidden_layers": 1},
        r"no module for the packed weight of model\.layers\.1\.mlp\.down_proj",
    ),
    "an adapter that peft refuses": (
        ADAPTER_CONFIG,
        {"layers_pattern": "layers"},
        r"peft does not attach the adapter: .*layers_to_transform",
    ),
}


@pytest.mark.parametrize("kind", STRUCTURE)
def test_structure_that_does_not_fit_the_model_is_found(tmp_path, kind):
    artifact = build_artifact(tmp_path / "a", pico_llama(tied=False), MXIntSpec(num_bits=3))
    file, changes, message = STRUCTURE[kind]
    edit_json(artifact.directory / file, **changes)
    with pytest.raises(VerificationError, match=message):
        verify_structure(artifact.directory)


def test_model_that_does_not_load_fails_the_logit_check(artifact):
    changed(artifact, model__norm__weight=torch.ones(63))
    with pytest.raises(VerificationError, match="cannot load it"):
        verify_logits(artifact.directory, TOKENS)
