"""Which runtimes load the result of a recipe, told before the job runs, with how we know.

`run`: this project's tests do it. `trial`: it was run once, outside the tests, with the versions named.
`source`: read in the runtime's source and never run, so the verdict is at most "untested".
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe.recipe import Recipe
from srr_core.recipe.uniform_grid import UniformGrid

Verdict = Literal["yes", "no", "untested"]
Evidence = Literal["run", "trial", "source"]

MARLIN_BITS = (4, 8)
MARLIN_GROUPS = (32, 64, 128)
MARLIN_OUT_MULTIPLE = 64
MARLIN_IN_MULTIPLE = 128
VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
GPTQ_BITS = (2, 3, 4, 8)
GPTQ_GROUPS = (32, 64, 128)
GGUF_BLOCK = 32
GGUF_SUPERBLOCK = 256
GGUF_WINDOWS = {2: 3, 3: 5, 4: 7, 5: 7, 6: 7}
"""Bits to the spread of exponents in a super-block that Q2_K, Q3_K and Q6_K hold exactly."""
GGUF_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
PLAIN_ROPE = "default"

Shape = tuple[int, int]


class CompatibilityRow(BaseModel):
    """One runtime's verdict on a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    verdict: Verdict
    reason: str
    evidence: Evidence


def rope_type(config: Mapping[str, Any]) -> str:
    """Return the type of rotary embedding a config.json asks for, by its names of today and of earlier versions."""
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return PLAIN_ROPE
    return str(rope.get("rope_type", rope.get("type", PLAIN_ROPE)))


def compatibility(
    recipe: Recipe,
    shapes: Iterable[Shape],
    *,
    architecture: str,
    rope: str = PLAIN_ROPE,
    all_linear: bool = True,
    has_experts: bool = False,
) -> tuple[CompatibilityRow, ...]:
    """Return a verdict for every runtime we know, in the order people ask for them.

    Args:
        shapes: (out, in) of the compressed layers.
        architecture: The class that config.json names, as LlamaForCausalLM.
        rope: See `rope_type`.
        all_linear: False for models whose weights are stored transposed, as GPT-2's.
        has_experts: Whether the model routes between experts.
    """
    sizes = set(shapes)
    grid = recipe.quantizer.uniform_grid
    stock = _stock_obstacle(grid, sizes, all_linear=all_linear, has_experts=has_experts)
    return (
        _transformers(stock),
        _our_runtime(),
        _marlin(grid, sizes, stock),
        _humming(grid, stock),
        _vllm_cpu(grid, sizes, stock),
        _vllm_lora(recipe.rank),
        _sglang(stock),
        _llama_cpp(grid, sizes, architecture, rope, has_experts=has_experts),
        _gptq(grid, sizes, all_linear=all_linear, has_experts=has_experts),
    )


def _stock_obstacle(
    grid: UniformGrid | None, sizes: Collection[Shape], *, all_linear: bool, has_experts: bool
) -> str | None:
    """Return why compressed-tensors cannot hold the result, or None."""
    if grid is None:
        return "these codes are no uniform grid; they are written in our own layout"
    if not all_linear:
        return "the model's weights are stored transposed; they are written in our own layout"
    odd = sorted({in_features for _, in_features in sizes if in_features % grid.group_size})
    if odd:
        return f"{odd[0]} inputs are no multiple of the group of {grid.group_size}; written in our own layout"
    if has_experts and not grid.is_symmetric:
        return "transformers drops the zero points of fused experts; written in our own layout"
    return None


def _transformers(stock: str | None) -> CompatibilityRow:
    name = "transformers + compressed-tensors + peft"
    if stock is not None:
        return CompatibilityRow(runtime=name, verdict="no", reason=stock, evidence="run")
    reason = "loads Q + L·R with one call, dense in memory; 3, 5, 6, 7 bits need compressed-tensors >= 0.18"
    return CompatibilityRow(runtime=name, verdict="yes", reason=reason, evidence="run")


def _our_runtime() -> CompatibilityRow:
    return CompatibilityRow(
        runtime="srr_core.runtime", verdict="yes", reason="stays packed in memory, experts included", evidence="run"
    )


def _source(runtime: str, obstacle: str | None, reason: str) -> CompatibilityRow:
    verdict: Verdict = "untested" if obstacle is None else "no"
    return CompatibilityRow(runtime=runtime, verdict=verdict, reason=obstacle or reason, evidence="source")


def _marlin(grid: UniformGrid | None, sizes: Collection[Shape], stock: str | None) -> CompatibilityRow:
    obstacle = stock
    if grid is not None and obstacle is None:
        if grid.num_bits not in MARLIN_BITS:
            obstacle = f"takes {_either(MARLIN_BITS)} bits, not {grid.num_bits}"
        elif grid.group_size not in MARLIN_GROUPS:
            obstacle = f"takes groups of {_either(MARLIN_GROUPS)}, not {grid.group_size}"
        else:
            obstacle = _odd_shape(sizes, MARLIN_OUT_MULTIPLE, MARLIN_IN_MULTIPLE)
    return _source("vLLM, Marlin kernel (GPU)", obstacle, "bits, group and shapes are in its list")


def _humming(grid: UniformGrid | None, stock: str | None) -> CompatibilityRow:
    obstacle = stock
    if grid is not None and obstacle is None and not grid.is_symmetric:
        obstacle = "takes symmetric grids only"
    return _source("vLLM, Humming kernel (GPU)", obstacle, "takes symmetric grids of 1 to 8 bits, any group")


def _vllm_cpu(grid: UniformGrid | None, sizes: Collection[Shape], stock: str | None) -> CompatibilityRow:
    obstacle = stock
    if grid is not None and obstacle is None:
        obstacle = f"takes 4 bits, not {grid.num_bits}" if grid.num_bits != 4 else _odd_shape(sizes, 32, 32)
    return _source("vLLM (CPU)", obstacle, "4 bits in even groups are in its list")


def _vllm_lora(rank: int) -> CompatibilityRow:
    name = "vLLM --enable-lora (L·R)"
    if rank == 0:
        return CompatibilityRow(runtime=name, verdict="yes", reason="rank 0: there is no adapter", evidence="run")
    larger = [allowed for allowed in VLLM_LORA_RANKS if allowed >= rank]
    obstacle = None if larger else f"its largest rank is {VLLM_LORA_RANKS[-1]}"
    reason = (
        f"start it with --max-lora-rank {larger[0] if larger else ''}; adapters over 4-bit groups of 32 "
        "gave wrong outputs on 0.17 to 0.24 (vllm #50059), so compare outputs first"
    )
    return _source(name, obstacle, reason)


def _sglang(stock: str | None) -> CompatibilityRow:
    return _source("SGLang", stock, "reads compressed-tensors and 16-bit adapters on a quantized base")


def _llama_cpp(
    grid: UniformGrid | None, sizes: Collection[Shape], architecture: str, rope: str, *, has_experts: bool
) -> CompatibilityRow:
    name = "llama.cpp (srr export --to gguf)"
    obstacle = _gguf_obstacle(grid, sizes, has_experts=has_experts) or _gguf_model_obstacle(architecture, rope)
    if obstacle is not None or grid is None:
        return CompatibilityRow(runtime=name, verdict="no", reason=str(obstacle), evidence="run")
    reason = f"{gguf_type(grid.num_bits, grid.group_size, is_power_of_two=grid.is_power_of_two)} holds Q exactly"
    return CompatibilityRow(
        runtime=name,
        verdict="yes",
        reason=f"{reason}, L·R in a LoRA file",
        evidence="run",
    )


def gguf_type(num_bits: int, group_size: int, *, is_power_of_two: bool) -> str:
    """Return the smallest GGUF block type that may hold a symmetric grid exactly."""
    if group_size < GGUF_BLOCK:
        return {2: "Q2_K", 3: "Q3_K"}.get(num_bits, "Q6_K" if num_bits <= 6 else "none")
    if is_power_of_two and num_bits <= 3:
        return "MXFP4"
    return "Q4_0" if num_bits <= 4 else "Q5_0" if num_bits == 5 else "Q8_0"


def _gguf_obstacle(grid: UniformGrid | None, sizes: Collection[Shape], *, has_experts: bool) -> str | None:
    if grid is None:
        return "no block type holds these codes; export merged instead"
    if has_experts:
        return "experts are not exported to GGUF yet; export merged instead"
    if not grid.is_symmetric:
        return "block types with an offset round it to fp16; use a symmetric grid or export merged"
    if grid.group_size >= GGUF_BLOCK:
        return _odd_shape(sizes, 1, GGUF_BLOCK)
    if not grid.is_power_of_two or grid.num_bits > 6:
        return f"no block type holds {grid.num_bits} bits in groups of {grid.group_size} exactly; use groups of 32"
    odd = _odd_shape(sizes, 1, GGUF_SUPERBLOCK)
    window = GGUF_WINDOWS.get(grid.num_bits)
    if odd is None and window is not None and (grid.exponent_window is None or grid.exponent_window > window):
        return (
            f"{gguf_type(grid.num_bits, grid.group_size, is_power_of_two=True)} is exact only with "
            f"quantizer.exponent_window <= {window}; without it the export is refused where a super-block "
            "spreads further"
        )
    return odd


def _gguf_model_obstacle(architecture: str, rope: str) -> str | None:
    if architecture not in GGUF_ARCHITECTURES:
        known = _either(GGUF_ARCHITECTURES)
        return f"the export knows {known}, not {architecture or 'a model without a class'}; export merged instead"
    if rope != PLAIN_ROPE:
        return f"rotary embeddings of type {rope} are not exported; export merged instead"
    return None


def _gptq(
    grid: UniformGrid | None, sizes: Collection[Shape], *, all_linear: bool, has_experts: bool
) -> CompatibilityRow:
    name = "GPTQ kernels (srr export --to gptq)"
    obstacle = None
    if grid is None or not grid.is_symmetric:
        obstacle = "the export takes symmetric uniform grids only"
    elif grid.num_bits not in GPTQ_BITS:
        obstacle = f"takes {_either(GPTQ_BITS)} bits, not {grid.num_bits}"
    elif grid.group_size not in GPTQ_GROUPS:
        obstacle = f"takes groups of {_either(GPTQ_GROUPS)}, not {grid.group_size}"
    elif not all_linear or has_experts:
        obstacle = "the export takes plain linear layers only"
    else:
        obstacle = _odd_shape(sizes, 32, 32)
    if obstacle is not None:
        return CompatibilityRow(runtime=name, verdict="no", reason=obstacle, evidence="run")
    reason = "weights equal to the last bit, packed in memory, with transformers 5.23 and GPTQModel 7.6 and 7.7"
    return CompatibilityRow(runtime=name, verdict="yes", reason=reason, evidence="trial")


def _odd_shape(sizes: Collection[Shape], out_multiple: int, in_multiple: int) -> str | None:
    for out_features, in_features in sorted(sizes):
        if out_features % out_multiple:
            return f"a layer has {out_features} outputs, which must be a multiple of {out_multiple}"
        if in_features % in_multiple:
            return f"a layer has {in_features} inputs, which must be a multiple of {in_multiple}"
    return None


def _either(values: Iterable[object]) -> str:
    words = [str(value) for value in values]
    return f"{', '.join(words[:-1])} or {words[-1]}"
