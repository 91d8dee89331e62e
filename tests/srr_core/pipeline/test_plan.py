"""Models that are refused before a weight is read, because no loader would give back what was computed."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from srr_core.checkpoint.architecture import Architecture
from srr_core.checkpoint.layers import plan_layers
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import UnsupportedModelError
from srr_core.pipeline.plan import choose_layout
from srr_core.recipe import PRESETS, override
from tests.pico import build_checkpoint

_TINY: dict[str, Any] = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
_VISION = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3}
ADAPTER_LOST = {
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
        r"layers\.0\.mlp\.shared_experts\.down_proj\.lora_A",
    ),
    "Mamba2ForCausalLM": (
        transformers.Mamba2Config(**_TINY, state_size=8, num_heads=8, head_dim=8, n_groups=1),
        "'out_proj' is incompatible with Mamba",
    ),
    "LlavaForConditionalGeneration": (
        transformers.LlavaConfig(
            text_config={**_TINY, "model_type": "llama", "intermediate_size": 64, "num_attention_heads": 4},
            vision_config={**_VISION, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        ),
        r"no tensor of the adapter fills 'model\.vision_tower",
    ),
}
"""What PEFT does to the factors of a model, asked of PEFT; a version that does better shows here."""


@pytest.mark.parametrize(
    ("kind", "rank", "reason"),
    [("llama4_text", 0, "experts"), ("deberta-v2", 4, "one at a time")],
)
def test_a_model_of_which_stock_loaders_lose_a_part_is_refused(
    kind: str, rank: int, reason: str, tmp_path: Path
) -> None:
    source = build_checkpoint(tmp_path / "source")
    architecture, weights = Architecture(source), CheckpointReader(source)
    layers = plan_layers(architecture, weights.entries)
    architecture.model.config.model_type = kind

    with pytest.raises(UnsupportedModelError, match=reason):
        choose_layout(architecture, layers, override(PRESETS["srr"], {"rank": rank}))


@pytest.mark.parametrize("name", ADAPTER_LOST)
def test_a_model_whose_adapter_stock_loaders_do_not_attach_is_refused_with_a_rank_only(
    name: str, tmp_path: Path
) -> None:
    config, message = ADAPTER_LOST[name]
    model = getattr(transformers, name)(config)
    model.save_pretrained(tmp_path / "source")
    architecture, weights = Architecture(tmp_path / "source"), CheckpointReader(tmp_path / "source")
    layers = plan_layers(architecture, weights.entries)

    with pytest.raises(UnsupportedModelError, match=rf"{message}.* use a recipe of rank 0"):
        choose_layout(architecture, layers, override(PRESETS["srr"], {"rank": 4}))

    assert choose_layout(architecture, layers, PRESETS["weight-only"]).stock_loadable
    assert not any("lora" in parameter for parameter, _ in architecture.model.named_parameters())
