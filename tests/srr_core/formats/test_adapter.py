"""L·R becomes an adapter of one rank that PEFT attaches to the compressed layers and to no other."""

import pytest
import torch

from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.adapter import (
    AdapterTargets,
    adapter_config,
    adapter_names,
    adapter_tensors,
    read_adapter,
    target_modules,
)
from srr_core.formats.expert_factors import expert_parts, fuse_factors


def factors(rank, rows=8, columns=12, seed=0):
    generator = torch.Generator().manual_seed(rank + 100 * seed)
    return torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)


def test_smaller_ranks_are_padded_and_keep_their_product():
    left, right = factors(3)
    tensors = adapter_tensors("a.0.b", left, right, rank=5)
    read_left, read_right = read_adapter("a.0.b", tensors.__getitem__, rank=5, shape=(8, 12))
    assert read_left.shape == (8, 5)
    assert torch.equal(read_left.float() @ read_right.float(), left.bfloat16().float() @ right.bfloat16().float())


def test_layer_without_factors_gets_zeros():
    tensors = adapter_tensors("m", None, None, rank=4, shape=(8, 12))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict(
        zip(adapter_names("m"), [(4, 12), (8, 4)], strict=True)
    )
    assert not any(tensor.any() for tensor in tensors.values())


def test_rank_above_the_adapters_is_refused():
    with pytest.raises(ExportError, match="rank 6, above the adapter's 5"):
        adapter_tensors("m", *factors(6), rank=5)


def test_factors_that_are_not_finite_are_refused():
    left, right = factors(2)
    left[0, 0] = torch.inf
    tensors = adapter_tensors("m", left, right, rank=2)
    with pytest.raises(CheckpointError, match=r"lora_B.*NaN or infinity"):
        read_adapter("m", tensors.__getitem__, rank=2, shape=(8, 12))


def test_targets_are_cut_before_their_block_list():
    assert target_modules(["model.layers.10.mlp.up_proj", "bert.encoder.layer.0.output.dense"]) == [
        "layer.0.output.dense",
        "layers.10.mlp.up_proj",
    ]


def test_a_target_is_as_long_as_it_takes_to_match_no_other_module():
    tower = ["model.vision_tower.encoder.layers.0.self_attn.q_proj", "model.vision_tower.layers.1.fc1"]
    names = ["model.language_model.layers.0.self_attn.q_proj", "model.language_model.layers.1.mlp.up_proj"]
    assert target_modules(names, [*tower, *names]) == [
        "language_model.layers.0.self_attn.q_proj",
        "layers.1.mlp.up_proj",
    ]


def test_a_layer_named_like_a_whole_module_of_another_path_is_named_in_full():
    assert target_modules(["layers.0.fc"], ["decoder.layers.0.fc"]) == ["layers.0.fc"]


def test_layers_named_by_their_weight_are_target_parameters_and_bare_ones_are_no_target():
    targets = AdapterTargets(frozenset({"m.layers.0.mlp.up_proj"}), frozenset({"m.layers.0.out_proj"}))
    names = ["m.layers.0.mlp.up_proj", "m.layers.0.out_proj", "m.layers.0.q_proj"]
    entries = targets.entries({name: name for name in names})
    assert entries == {"target_modules": ["layers.0.q_proj"], "target_parameters": ["layers.0.mlp.up_proj.weight"]}
    config = adapter_config(rank=4, base_model=None, task=None, **entries)
    assert config["target_parameters"] == ["layers.0.mlp.up_proj.weight"]


def test_experts_are_targeted_by_their_fused_parameters():
    projections = ("gate_proj", "up_proj", "down_proj")
    names = [*(f"model.layers.0.mlp.experts.7.{name}" for name in projections), "model.layers.0.self_attn.q_proj"]
    assert target_modules(names) == ["layers.0.self_attn.q_proj"]
    config = adapter_config(
        rank=4, target_modules=["q"], base_model=None, task=None, experts=expert_parts(names).values()
    )
    assert config["target_parameters"] == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    assert config["rank_pattern"] == config["alpha_pattern"] == {r".*\.gate_up_proj": 8}


def test_experts_without_gates_are_fused_by_two_parameters():
    names = [f"m.layers.0.mixer.experts.{index}.{part}" for index in range(2) for part in ("up_proj", "down_proj")]
    parts = expert_parts(names)
    assert {part.parameter for part in parts.values()} == {"up_proj", "down_proj"}
    config = adapter_config(rank=4, target_modules=[], base_model=None, task=None, experts=parts.values())
    assert config["rank_pattern"] == {}


def test_experts_with_projections_of_unknown_names_are_refused():
    with pytest.raises(ExportError, match=r"m\.0\.mlp\.experts have projections of an unknown kind: w9"):
        expert_parts(["m.0.mlp.experts.0.w9"])


@pytest.mark.parametrize("owner", ["model.layers.0.mlp.experts.{}.{}", "model.layers.0.block_sparse_moe.experts.{}.{}"])
def test_factors_of_experts_are_fused_and_found_again(owner):
    projections = ["gate_proj", "up_proj", "down_proj"] if ".mlp." in owner else ["w1", "w3", "w2"]
    names = [owner.format(index, projection) for index in range(3) for projection in projections]
    factors_of = {name: factors(4, seed=seed) for seed, name in enumerate(names)}
    separate = {
        key: tensor
        for name, (left, right) in factors_of.items()
        for key, tensor in adapter_tensors(name, left, right, rank=4).items()
    }
    parts = expert_parts(names)
    fused = dict(fuse_factors(separate, separate.__getitem__, parts))
    assert set(fused) == {key for name in names for key in adapter_names(name, parts[name])}
    for name, (left, right) in factors_of.items():
        found_left, found_right = read_adapter(name, fused.__getitem__, rank=4, shape=(8, 12), part=parts[name])
        assert torch.equal(found_left, left.bfloat16())
        assert torch.equal(found_right, right.bfloat16())


def test_layer_with_an_expert_left_out_is_refused():
    whole = [f"m.0.mlp.experts.{index}.{part}" for index in (0, 1) for part in ("down_proj", "gate_proj", "up_proj")]
    names = whole[:5]
    separate = {k: t for name in names for k, t in adapter_tensors(name, *factors(2), rank=2).items()}
    with pytest.raises(CheckpointError, match=r"expert 1 of m\.0\.mlp\.experts has no factors for gate_up_proj"):
        dict(fuse_factors(separate, separate.__getitem__, expert_parts(whole)))
