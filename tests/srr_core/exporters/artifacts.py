"""Builds small artifacts on disk from two-block random models, by the public parts only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.formats.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_tensors,
    target_modules,
)
from srr_core.formats.expert_factors import expert_parts, fuse_factors
from srr_core.formats.layout import Layout
from srr_core.formats.layouts import native_layout
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import QuantizerSpec, QuIPSharpSpec, Recipe
from srr_core.types import Statistics
from srr_core.verification.digest import layer_digest
from srr_core.verification.verify import ExpectedLayer

TOKENS = torch.arange(3, 23).reshape(2, 10)
RANK = 4
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class PicoArtifact:
    """An artifact on disk and what its outputs must be."""

    directory: Path
    expected: list[ExpectedLayer]
    layout: Layout
    outputs: Tensor
    """Of the in-memory model whose weights are Q + L·R, float32."""


def pico_llama(
    *, tied: bool = True, biases: bool = True, hidden: int = 64, intermediate: int = 96, vocab: int = 96
) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocab,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        attention_bias=biases,
        mlp_bias=biases,
    )
    return _with_random_biases(LlamaForCausalLM(config))


def pico_bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=96,
        max_position_embeddings=64,
    )
    return _with_random_biases(BertForMaskedLM(config))


def pico_moe(kind: str) -> PreTrainedModel:
    """A mixture of four experts; `mixtral` spells its projections w1, w2, w3 on disk."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    if kind == "mixtral":
        mixtral = MixtralConfig(
            **sizes, intermediate_size=96, vocab_size=96, num_local_experts=4, num_experts_per_tok=2
        )
        return MixtralForCausalLM(mixtral).eval()
    qwen = Qwen3MoeConfig(
        **sizes,
        head_dim=16,
        intermediate_size=96,
        moe_intermediate_size=64,
        vocab_size=96,
        num_experts=4,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        tie_word_embeddings=False,
    )
    return Qwen3MoeForCausalLM(qwen).eval()


def expert_modules(tensors: dict[str, Tensor]) -> list[str]:
    """Names on disk of every projection of a mixture, routers left out."""
    return [
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if tensor.ndim == 2 and ".layers." in name and not name.endswith("gate.weight")
    ]


def _with_random_biases(model: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def block_linears(model: nn.Module) -> list[str]:
    """Names of the linear modules inside the repeated blocks."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and (".layer" in name or ".h." in name)
    ]


def build_artifact(
    directory: Path, model: PreTrainedModel, spec: QuantizerSpec, *, rank: int = RANK, layout: Layout | None = None
) -> PicoArtifact:
    """Write a model compressed with `spec` and a rank-`rank` correction of its quantization error."""
    source = directory.with_name(directory.name + "-source")
    model.save_pretrained(source)
    tensors = load_file(source / "model.safetensors")
    has_experts = any(".experts." in name for name in tensors)
    modules = expert_modules(tensors) if has_experts else block_linears(model)
    layout = layout or native_layout(spec)
    recipe = Recipe(quantizer=spec, rank=rank)
    files: dict[str, Tensor] = {
        name: value for name, value in tensors.items() if name.removesuffix(".weight") not in modules
    }
    adapter: dict[str, Tensor] = {}
    expected = []
    for name in modules:
        is_transposed = not has_experts and isinstance(model.get_submodule(name), Conv1D)
        weight = tensors[f"{name}.weight"].float()
        weight = weight.t().contiguous() if is_transposed else weight
        quantized = QUANTIZERS.build(spec).quantize(weight, _statistics(spec, weight.shape[1]))
        left, right = _factors(weight - quantized.dequantize(), rank)
        files |= layout.layer_tensors(name, quantized)
        if rank:
            adapter |= adapter_tensors(name, left, right, rank=rank)
        expected.append(ExpectedLayer(name, layer_digest(quantized, left, right)))
        dense = layout.loaded_weight(quantized) + left.float() @ right.float()
        tensors[f"{name}.weight"] = dense.t().contiguous() if is_transposed else dense
    dense_model = type(model).from_pretrained(None, config=model.config, state_dict=tensors, dtype=torch.float32).eval()
    directory.mkdir()
    write_tensors(directory / SHARD, files, metadata={"format": "pt"})
    write_json(directory / INDEX, {"metadata": {}, "weight_map": dict.fromkeys(files, SHARD)})
    config = json.loads((source / "config.json").read_text())
    ignore = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n not in modules]
    config["quantization_config"] = layout.quantization_config(recipe, ignore=ignore, modules=modules)
    write_json(directory / "config.json", config)
    if rank:
        parts = expert_parts(modules)
        fused = dict(fuse_factors(adapter, adapter.__getitem__, parts))
        write_tensors(directory / ADAPTER_WEIGHTS, fused, metadata={"format": "pt"})
        targets = target_modules(modules)
        write_json(
            directory / ADAPTER_CONFIG,
            adapter_config(
                rank=rank, target_modules=targets, base_model=None, task="CAUSAL_LM", experts=parts.values()
            ),
        )
    with torch.inference_mode():
        outputs = dense_model(TOKENS)[0]
    return PicoArtifact(directory, expected, layout, outputs)


def _statistics(spec: QuantizerSpec, in_features: int) -> Statistics | None:
    """White inputs, for the one quantizer here that asks for any."""
    if not isinstance(spec, QuIPSharpSpec):
        return None
    return Statistics(torch.eye(in_features, dtype=torch.float64), torch.ones(in_features, dtype=torch.float64), 1)


def _factors(error: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, s, v = torch.linalg.svd(error, full_matrices=False)
    return (u[:, :rank] * s[:rank]).bfloat16(), v[:rank].bfloat16()


def edit_tensors(file: Path, **changes: Tensor | None) -> None:
    """Replace tensors of a safetensors file; None removes one. Dots are spelt as double underscores."""
    tensors = load_file(file)
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, file, metadata={"format": "pt"})
