"""Sizes a configuration may give: what no model has would build modules until memory or patience runs out."""

from collections.abc import Iterator, Mapping
from typing import Any

from srr_core.errors import UnsupportedModelError

MAX_BLOCKS = 1_000
"""The deepest published language models have fewer than 200 blocks."""
MAX_EXPERTS = 4_096
MAX_EXPERTS_IN_ALL = 100_000
"""Blocks times experts, each of them modules of their own. The largest mixtures of 2026 have about 30,000."""
MAX_WIDTH = 1 << 20
MAX_VOCABULARY = 1 << 24

_BLOCKS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "ffn_dim",
    "n_embd",
    "n_inner",
    "d_model",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "n_head",
)
_LIMITS: Mapping[str, int] = {
    **dict.fromkeys(_BLOCKS, MAX_BLOCKS),
    **dict.fromkeys(_EXPERTS, MAX_EXPERTS),
    **dict.fromkeys(_WIDTHS, MAX_WIDTH),
    "vocab_size": MAX_VOCABULARY,
}
_ATTENTION = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")
_STOCK_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_DTYPES = ("dtype", "torch_dtype")
_MAY_BE_ZERO = frozenset(_EXPERTS)
"""Some mixtures write 0 where they have no experts of that kind."""


def check_sizes(config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose numbers belong to no model.

    Raises:
        UnsupportedModelError: attention is to come from a repository of code; or a number of blocks, experts or values
            is not whole, not positive or beyond all reason; or the dtype has no name.
    """
    for part in _parts(config):
        _check_attention(part)
        _check_dtype(part)
        for name, limit in _LIMITS.items():
            _check_size(name, part.get(name), limit)
        in_all = max(_given(part, _BLOCKS)) * max(_given(part, _EXPERTS))
        if in_all > MAX_EXPERTS_IN_ALL:
            raise UnsupportedModelError(
                f"config.json gives {in_all:,} experts over all blocks, and {MAX_EXPERTS_IN_ALL:,} are the most that "
                "are taken; give the numbers of a model that exists"
            )


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configuration and those it holds for text, vision and so on: one level is what there is."""
    yield config
    yield from (part for name, part in config.items() if name.endswith("_config") and isinstance(part, Mapping))


def _check_size(name: str, value: Any, limit: int) -> None:
    # A list gives a size to each block; the classes of transformers that know it look at it themselves.
    if value is None or isinstance(value, list | tuple | Mapping):
        return
    least = 0 if name in _MAY_BE_ZERO else 1
    if type(value) is not int or not least <= value <= limit:
        shown = repr(value)[:40]
        raise UnsupportedModelError(
            f"config.json gives {name} as {shown}; a whole number from {least} to {limit:,} is what can be compressed"
        )


def _check_attention(part: Mapping[str, Any]) -> None:
    # Any other name is looked up on the Hub as a repository of kernels, which is code, and run.
    for name in _ATTENTION:
        if part.get(name) not in _STOCK_ATTENTION:
            shown = repr(part[name])[:80]
            raise UnsupportedModelError(
                f"config.json gives {name} as {shown}; take it out, or give sdpa or eager: code of a repository is "
                "never run"
            )


def _check_dtype(part: Mapping[str, Any]) -> None:
    # Whoever passes a dtype of its own never looks at this one; who loads the result without one fails at it.
    for name in _DTYPES:
        if not isinstance(part.get(name), str | Mapping | None):
            raise UnsupportedModelError(
                f"config.json gives {name} as {repr(part[name])[:40]}; the name of a type of floats, such as bfloat16, "
                "is what loaders take"
            )


def _given(part: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    return [1, *(value for name in names if type(value := part.get(name)) is int)]
