"""Builders of two-block random checkpoints with a byte tokenizer, one for each supported architecture."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 259
WINDOW = 16
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_HEAD = {"head_dim": 8}

ARCHITECTURES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", {**_GROUPED, "attention_bias": True, "mlp_bias": True}),
    "MistralForCausalLM": ("MistralConfig", {**_GROUPED, "sliding_window": 8}),
    "Qwen2ForCausalLM": ("Qwen2Config", _GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", {**_GROUPED, **_HEAD, "tie_word_embeddings": True}),
    "Gemma2ForCausalLM": ("Gemma2Config", {**_GROUPED, **_HEAD, "sliding_window": 8}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {**_GROUPED, **_HEAD, "sliding_window": 8, "sliding_window_pattern": 2}),
    "Phi3ForCausalLM": ("Phi3Config", {**_GROUPED, "pad_token_id": 0}),
    "OPTForCausalLM": (
        "OPTConfig",
        {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "do_layer_norm_before": True},
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "BertForMaskedLM": ("BertConfig", _SIZES),
    "RobertaForMaskedLM": ("RobertaConfig", {**_SIZES, "max_position_embeddings": 66}),
    "MixtralForCausalLM": ("MixtralConfig", {**_GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "Qwen3MoeForCausalLM": (
        "Qwen3MoeConfig",
        {**_GROUPED, **_HEAD, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
}


def build_model(architecture: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a random float32 model whose biases are not zero."""
    config_name, fields = ARCHITECTURES[architecture]
    config = getattr(transformers, config_name)(**{**fields, "bos_token_id": 1, "eos_token_id": 2, **changes})
    torch.manual_seed(seed)
    model: PreTrainedModel = getattr(transformers, architecture)(config).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def has_option(architecture: str, field: str) -> bool:
    """Return whether the configuration of an architecture declares a field."""
    return hasattr(getattr(transformers, ARCHITECTURES[architecture][0])(), field)


def build_checkpoint(
    directory: Path,
    architecture: str = "LlamaForCausalLM",
    *,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_size: str = "5GB",
    seed: int = 0,
    change: Callable[[PreTrainedModel], None] | None = None,
    **changes: Any,
) -> Path:
    """Write a checkpoint folder with config, safetensors weights and tokenizer; return it."""
    model = build_model(architecture, seed=seed, **changes)
    if change is not None:
        with torch.no_grad():
            change(model)
    model.to(dtype).save_pretrained(directory, max_shard_size=max_shard_size)
    byte_tokenizer().save_pretrained(directory)
    return directory


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token per byte, after three special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{symbol: 3 + index for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def write_text(file: Path, *, words: int = 400) -> Path:
    """Write a text of a few thousand characters; return it."""
    nouns = ("river", "engine", "letter", "garden", "signal", "winter", "matrix", "harbour")
    verbs = ("carries", "follows", "answers", "holds", "crosses", "measures")
    text = " ".join(f"the {nouns[i % 8]} {verbs[(i * i) % 6]} the {nouns[(3 * i + 1) % 8]}." for i in range(words // 5))
    file.write_text(text, encoding="utf-8")
    return file


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json."""
    value: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return value
