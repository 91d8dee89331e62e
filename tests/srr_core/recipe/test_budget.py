"""Budgets as a recipe states them."""

from typing import Any

import pytest

from srr_core.errors import RecipeError
from srr_core.recipe import IntegerSpec, Setting, named_recipe, override
from srr_core.recipe.fused import fused_groups


@pytest.mark.parametrize(
    ("name", "budget", "words"),
    [
        ("gptq", {}, "one of target_bits, target_size_bytes and target_kl"),
        ("gptq", {"target_bits": 3, "target_size_bytes": 10}, "one of target_bits, target_size_bytes and target_kl"),
        ("gptq", {"target_bits": 3, "target_kl": 0.02}, "one of target_bits, target_size_bytes and target_kl"),
        ("gptq", {"target_bits": -1}, "target_bits"),
        ("gptq", {"target_kl": 0}, "target_kl"),
        ("gptq", {"target_bits": 3, "num_bits": [3], "group_sizes": [32]}, "one setting has nothing to choose from"),
        ("gptq", {"target_bits": 3, "num_bits": [3, 3]}, "lists a number twice"),
        ("gptq", {"target_bits": 3, "num_bits": []}, "num_bits"),
        ("gptq", {"target_bits": 3, "num_bits": [9]}, "num_bits.0.*must be at most 8"),
        ("gptq", {"target_bits": 3, "group_sizes": [48]}, "groups of 48"),
        ("srr", {"target_bits": 3}, "mxint grid cannot have 2 bits in groups of 64"),
        ("gptq", {"target_bits": 3, "ranks": [5000]}, "ranks.0.*1024"),
        ("quip-sharp", {"target_bits": 3}, "uniform grid, not quip-sharp"),
        ("qlora", {"target_bits": 3}, "uniform grid, not normal-float"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(name: str, budget: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        override(named_recipe(name), {"budget": budget})


def test_a_setting_replaces_bits_and_group_of_the_grid_and_nothing_else() -> None:
    recipe = override(named_recipe("gptq"), {"quantizer.act_order": False, "quantizer.grid.search": "mse"})

    found = recipe.quantizer_of(Setting(2, 32))

    assert found.model_dump() == {
        **recipe.quantizer.model_dump(),
        "grid": IntegerSpec(num_bits=2, group_size=32, symmetric=True, search="mse").model_dump(),
    }


def test_layers_that_loaders_fuse_are_one_group() -> None:
    names = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.k_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.block_sparse_moe.experts.0.w1",
        "model.layers.0.block_sparse_moe.experts.0.w2",
        "model.layers.0.block_sparse_moe.experts.1.w3",
    ]

    assert fused_groups(names) == [
        (names[0], names[1], names[3]),
        (names[2],),
        (names[4],),
        (names[5], names[6]),
        tuple(names[7:]),
    ]
