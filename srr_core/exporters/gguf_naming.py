"""What llama.cpp calls an architecture, its tensors and its hyperparameters."""

import math
from dataclasses import dataclass
from typing import Any

import gguf
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from srr_core.errors import ExportError
from srr_core.recipe.gguf_types import GGUF_ROPES, LLAMA_ROPE, PLAIN_ROPE

_SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True)
class _Family:
    architecture: gguf.MODEL_ARCH
    permutes_heads: bool
    """llama.cpp rotates neighbours, transformers halves; converters of this family reorder q and k rows."""


FAMILIES = {
    "LlamaForCausalLM": _Family(gguf.MODEL_ARCH.LLAMA, permutes_heads=True),
    "MistralForCausalLM": _Family(gguf.MODEL_ARCH.LLAMA, permutes_heads=True),
    "Qwen2ForCausalLM": _Family(gguf.MODEL_ARCH.QWEN2, permutes_heads=False),
    "Qwen3ForCausalLM": _Family(gguf.MODEL_ARCH.QWEN3, permutes_heads=False),
}


class Naming:
    """Names, row order and hyperparameters of one model.

    Raises:
        ExportError: the architecture or its rotary embedding is not one this export knows.
    """

    def __init__(self, architecture: str, config: Any) -> None:
        try:
            self._family = FAMILIES[architecture]
        except KeyError:
            raise ExportError(
                f"the GGUF export knows {', '.join(FAMILIES)}, not {architecture}; export merged and use "
                "llama.cpp's own converter"
            ) from None
        self.config = config
        self.architecture = gguf.MODEL_ARCH_NAMES[self._family.architecture]
        self._names = gguf.get_tensor_name_map(self._family.architecture, config.num_hidden_layers)
        rope = dict(getattr(config, "rope_parameters", None) or {})
        kind = rope.get("rope_type", PLAIN_ROPE)
        if kind not in GGUF_ROPES.get(architecture, (PLAIN_ROPE,)):
            raise ExportError(f"rotary embeddings of type {kind!r} are not exported to GGUF")
        self._rope = rope
        self.rope_theta = float(rope.get("rope_theta", 10000.0))

    @property
    def context_length(self) -> int:
        """Tokens up to which llama.cpp computes what the model does: it knows no attention window for this family."""
        window = getattr(self.config, "sliding_window", None)
        longest = int(self.config.max_position_embeddings)
        return longest if window is None else min(longest, int(window))

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        found = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        return int(found)

    def rope_divisors(self) -> Float[Tensor, " half"] | None:
        """Return by what llama.cpp divides each frequency of a Llama 3 model; None where all stay as they are.

        Waves shorter than the first context's `high_freq_factor`-th part stay, those longer than its
        `low_freq_factor`-th part are stretched by `factor`, and between them the stretch fades in.
        Source: the config.json of Llama 3.1, as transformers reads it.
        """
        if self._rope.get("rope_type", PLAIN_ROPE) != LLAMA_ROPE:
            return None
        low, high, factor, context = (
            float(self._rope[key])
            for key in ("low_freq_factor", "high_freq_factor", "factor", "original_max_position_embeddings")
        )
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim
        turns = context / (2 * math.pi * self.rope_theta**exponents)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 / (kept + (1 - kept) / factor)).to(torch.float32)

    def name(self, tensor: str) -> str:
        """Return llama.cpp's name of a tensor. Raises ExportError for one it has no place for."""
        found = self._names.get_name(tensor, try_suffixes=_SUFFIXES)
        if found is None:
            raise ExportError(f"llama.cpp has no place for tensor {tensor!r} in {self.architecture}")
        return str(found)

    def reorder_rows(self, tensor: str, values: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "rows ..."]:
        """Return the rows of q and k in llama.cpp's rotary order, every other tensor as it is."""
        if not self._family.permutes_heads:
            return values
        heads = self._heads(tensor)
        if heads is None:
            return values
        split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return split.transpose(1, 2).reshape(values.shape).contiguous()

    def add_hyperparameters(self, writer: gguf.GGUFWriter) -> None:
        """Write what llama.cpp needs to build the graph."""
        config = self.config
        head_dim = self.head_dim
        writer.add_context_length(self.context_length)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(self.rope_theta)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)

    def _heads(self, tensor: str) -> int | None:
        owner = tensor.rpartition(".")[0].rpartition(".")[2]
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        found = heads.get(owner)
        return None if found is None else int(found)


def plain_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype a tensor kept from the source is written in: vectors float32, matrices as they are."""
    return torch.float32 if tensor.ndim < 2 else tensor.dtype
