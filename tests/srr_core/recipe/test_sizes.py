"""Sizes that no model has are refused before anything is built from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from srr_core.errors import UnsupportedModelError
from srr_core.models.architecture import Architecture
from srr_core.recipe.architectures import check_config
from srr_core.recipe.sizes import check_sizes
from tests.pico import ARCHITECTURES, build_checkpoint, read_config

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 1e300},
        {"num_hidden_layers": True},
        {"n_layer": 10**9},
        {"hidden_size": 10**12},
        {"intermediate_size": "64"},
        {"vocab_size": 10**10},
        {"num_experts": 10**6},
        {"num_hidden_layers": 900, "num_local_experts": 4000},
        {"text_config": {"num_hidden_layers": 10**9}},
        {"dtype": 1},
        {"text_config": {"torch_dtype": ["bfloat16"]}},
    ],
)
def test_a_bomb_is_refused_with_what_it_says(sizes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json gives"):
        check_config({**LLAMA, **sizes})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_of_real_configurations_pass(architecture: str) -> None:
    check_sizes(getattr(transformers, ARCHITECTURES[architecture][0])().to_dict())


def test_the_core_builds_no_module_of_a_bomb(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "bomb")
    (folder / "config.json").write_text(json.dumps({**read_config(folder), "num_hidden_layers": 10**9}))

    with pytest.raises(UnsupportedModelError, match="num_hidden_layers"):
        Architecture(folder)
