"""A configuration made small: the same class, the same kinds of blocks, a few numbers of every size.

Fields are recognized by what their names say, as configurations of transformers agree on them. A class that needs its
sizes to fit in ways its names do not tell may not be buildable from the result; whoever asks has to expect that.
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

DEPTH = 2
"""Blocks, where the configuration tells no kinds of them apart."""
TOWER_DEPTH = 3
"""Blocks of towers for images and sound; another number than the text's, as published models mostly have."""
VOCABULARY = 320
HEADS, KEY_HEADS, HEAD = 4, 2, 16
WIDTH, INNER = HEADS * HEAD, 96
EXPERTS, CHOSEN = 4, 2
RANK, STATE, POSITIONS, WINDOW = 32, 16, 128, 32
MAX_KINDS = 4
"""A list of more different values than this is not a pattern of kinds of blocks."""
ROPE_SECTIONS = (2, 3, 3)
"""Rotary pairs of time, height and width; half of a head."""

_TEXT = re.compile(r"text|llm|language|decoder|thinker|backbone")
_SIZES: Sequence[tuple[re.Pattern[str], int]] = tuple(
    (re.compile(pattern), size)
    for pattern, size in (
        (r"(^|_)qk_rope_head_dim$|^rotary_dim$", HEAD // 2),
        (r"^index_head_dim$", HEAD),
        (r"(num_key_value_heads|kv_heads|num_key_value|key_value_heads|linear_num_key_heads)$", KEY_HEADS),
        (r"(mamba_n_heads|mamba_num_heads|n_mamba_heads)$", 2 * WIDTH // HEAD),
        (r"(attention_heads|num_heads|n_heads?|heads|linear_num_value_heads|num_query_heads)$", HEADS),
        (r"(head_dim|d_kv|head_size|mamba_d_head|attention_key_hidden_size|kv_channels)$", HEAD),
        (r"(lora_rank|latent_size)$", RANK),
        (r"^(n_routed|num|num_local|n|moe_num|num_routed|moe_num_routed)_experts$", EXPERTS),
        (
            r"(experts_per_tok(en)?|moe_top_?k|selected_experts|top_k_experts|experts_per_topk|moe_k|router_top_?k)$",
            CHOSEN,
        ),
        (r"^(n_group|topk_group|num_expert_group)$", 1),
        (r"^(n_shared_experts|(moe_)?num_shared_experts|first_k_dense(_replace)?|num_dense_layers)$", 1),
        (
            r"(intermediate(_size|_dim)?|ffn_dim|n_inner|d_ff|mlp_dim|ffn_hidden_size|dff|feed_?forward_size|inner_dim"
            r"|moe_intermediate|mlp_hidden_size)$",
            INNER,
        ),
        (
            r"(hidden_size|d_model|n_embd|^dim|embed_dim|hidden_dim|word_embed_proj_dim|embedding_size|embedding_dim"
            r"|projection_dim|emb_dim|lru_width|output_proj_dims|out_dim|output_dim|hidden_units)$",
            WIDTH,
        ),
        (r"(state_size|mamba_d_state)$", STATE),
        (r"^(mamba_d_ssm|d_inner)$", 2 * WIDTH),
        (r"(time_step_rank|mamba_dt_rank)$", HEAD // 2),
        (
            r"^(max_position_embeddings|n_positions|max_seq(uence)?_len(gth)?|n_ctx|max_(target|source)_positions"
            r"|context_length)$",
            POSITIONS,
        ),
        (r"^image_size$", WINDOW),
        (r"^patch_size$", HEAD // 2),
        (r"(sliding_window|attention_window_size|attention_chunk_size|chunk_size|window_size)$", WINDOW),
    )
)
_DEPTH = re.compile(
    r"^(num_hidden_layers|num_layers|n_layers?|depth|num_blocks|layers|(num_)?(en|de)coder_(num_)?layers)$"
)
_VOCABULARY = re.compile(r"vocab_size|^(n_vocab|num_codes)$")
_TOKEN = re.compile(r"(_token_id|_token_index)$")
_BY_LAYER = "per_layer_config"
_LEFT = frozenset({"chunk_size_feed_forward", "vocab_size_or_config_json_file"})
_FIRST_TOKEN = 3
"""Token ids below are padding, beginning and end."""


def miniature(config: PreTrainedConfig, changes: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """Return a small configuration of the same class; the original is not changed.

    Args:
        changes: Fields that names do not tell, set last.
    Raises:
        Exception: whatever the class raises about sizes that do not fit.
    """
    fields = _small(config, DEPTH, iter(range(_FIRST_TOKEN, VOCABULARY)))
    fields.pop("quantization_config", None)
    return type(config).from_dict(_merged(fields, changes or {}))


def _merged(fields: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        before = fields.get(name)
        is_part = isinstance(before, dict) and isinstance(value, Mapping) and "rope" not in name
        fields[name] = _merged(before, value) if is_part and isinstance(before, dict) else value
    return fields


def _small(config: PreTrainedConfig, depth: int, tokens: Iterable[int]) -> dict[str, Any]:
    parts = {name: value for name, value in vars(config).items() if isinstance(value, PreTrainedConfig)}
    fields = {name: value for name, value in copy.deepcopy(config.to_dict()).items() if name not in parts}
    chosen = _blocks(fields, depth)
    free = iter(tokens)
    result: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _LEFT or isinstance(value, bool):
            result[name] = value
        elif isinstance(value, list | tuple) and len(value) == _depth_of(fields) and value and chosen:
            result[name] = [_number(name, value[index], len(chosen)) for index in chosen]
        elif _TOKEN.search(name) and isinstance(value, int):
            result[name] = next(iter(free)) if value >= 0 else value
        elif name == _BY_LAYER and isinstance(value, dict):
            result[name] = _by_layer(value, chosen)
        elif isinstance(value, dict):
            result[name] = _rope(value) if "rope" in name else _numbers(value, len(chosen) or depth)
        else:
            result[name] = _number(name, value, len(chosen) or depth)
    for name, part in parts.items():
        result[name] = _small(part, depth if _TEXT.search(name) else TOWER_DEPTH, free)
        result[name].setdefault("model_type", part.model_type)
    _fit(fields, result)
    return result


def _fit(before: Mapping[str, Any], after: dict[str, Any]) -> None:
    """Keep what was equal equal: heads without groups, and heads that are rotary as a whole."""
    heads = [name for name in ("num_attention_heads", "num_key_value_heads") if isinstance(before.get(name), int)]
    if len(heads) == 2 and before[heads[0]] == before[heads[1]]:
        after[heads[1]] = after[heads[0]]
    if before.get("qk_rope_head_dim") is not None and before.get("head_dim") == before["qk_rope_head_dim"]:
        after["head_dim"] = after["qk_rope_head_dim"]
    if after.get("pad_token_id") is not None:
        after["pad_token_id"] = 0


def _depth_of(fields: Mapping[str, Any]) -> int:
    depth = fields.get("num_hidden_layers")
    return depth if isinstance(depth, int) else 0


def _blocks(fields: Mapping[str, Any], depth: int) -> list[int]:
    """Return the numbers of blocks to keep: one of every kind that a list tells apart, and no fewer than `depth`."""
    length = _depth_of(fields)
    patterns = [value for value in fields.values() if isinstance(value, list | tuple) and len(value) == length > 0]
    chosen: set[int] = set()
    for values in patterns:
        first: dict[str, int] = {}
        for index, value in enumerate(values):
            first.setdefault(repr(value), index)
        if len(first) <= MAX_KINDS:
            chosen |= set(first.values())
    if not patterns:
        return []
    spare = (index for index in range(length) if index not in chosen)
    return sorted(chosen | {index for index, _ in zip(spare, range(depth - len(chosen)), strict=False)})


def _by_layer(values: Mapping[Any, Any], chosen: Sequence[int]) -> dict[Any, Any]:
    """Return what a configuration says of single blocks, by the new numbers of those that are kept."""
    kept = {int(index): value for index, value in values.items() if str(index).isdigit()}
    return {
        new: _numbers(kept[old], len(chosen)) for new, old in enumerate(chosen) if isinstance(kept.get(old), Mapping)
    }


def _numbers(values: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    return {name: _number(str(name), value, depth) for name, value in values.items()}


def _number(name: str, value: Any, depth: int) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return value
    if _VOCABULARY.search(name):
        return min(value, VOCABULARY)
    if _DEPTH.search(name):
        return min(value, depth)
    return next((min(value, size) for pattern, size in _SIZES if pattern.search(name)), value)


def _rope(values: Mapping[Any, Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {
        name: _rope(value) if isinstance(value, dict) else value for name, value in values.items()
    }
    if "mrope_section" in result:
        result["mrope_section"] = list(ROPE_SECTIONS)
    for name in ("short_factor", "long_factor"):
        factors = values.get(name)
        if isinstance(factors, list):
            result[name] = factors[: HEAD // 2]
    return result
