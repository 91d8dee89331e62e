"""Which runtimes load the result of a recipe, told before the job runs, with how we know."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from srr_core.recipe.architectures import ENCODER_DECODERS, TRANSPOSED
from srr_core.recipe.gguf_types import PLAIN_ROPE, llama_cpp_row
from srr_core.recipe.recipe import Recipe
from srr_core.recipe.servers import sglang_row, vllm_rows
from srr_core.recipe.uniform_grid import UniformGrid
from srr_core.recipe.verdicts import Asked, CompatibilityRow, Shape, either, odd_shape, verdict_by_source

TRANSFORMERS = "transformers + compressed-tensors + peft"
OURS = "srr_core.runtime"
GPTQ = "GPTQ kernels (srr export --to gptq)"
GPTQ_BITS = (2, 3, 4, 8)
GPTQ_GROUPS = (32, 64, 128)
GPTQ_READ = "GPTQModel 7.7.0, 2026-11-28"
GPTQ_TRIED = "transformers 5.23, GPTQModel 7.6 and 7.7"


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
        all_linear: False where a layer of the model is not a plain Linear; a class whose weights are stored
            transposed, as GPT-2's, is known by its name too.
        has_experts: Whether the model routes between experts.
    """
    all_linear = all_linear and architecture not in TRANSPOSED
    asked = Asked(
        grid=recipe.quantizer.uniform_grid,
        sizes=frozenset(shapes),
        rank=recipe.rank,
        all_linear=all_linear,
        has_experts=has_experts,
        is_encoder_decoder=architecture in ENCODER_DECODERS,
    )
    stock = _stock_obstacle(asked.grid, asked.sizes, all_linear=all_linear, has_experts=has_experts)
    return (
        _transformers(stock),
        _our_runtime(),
        *vllm_rows(asked, stock),
        sglang_row(asked, stock),
        llama_cpp_row(asked, architecture, rope),
        _gptq(asked),
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
    if stock is not None:
        return CompatibilityRow(runtime=TRANSFORMERS, verdict="no", reason=stock, evidence="run")
    reason = (
        "loads Q + L·R with one call, dense in memory; 3, 5, 6, 7 bits need compressed-tensors >= 0.18, and vLLM 0.33 "
        "pins 0.17, so give the two an environment each"
    )
    return CompatibilityRow(runtime=TRANSFORMERS, verdict="yes", reason=reason, evidence="run")


def _our_runtime() -> CompatibilityRow:
    return CompatibilityRow(
        runtime=OURS, verdict="yes", reason="stays packed in memory, experts included", evidence="run"
    )


def _gptq(asked: Asked) -> CompatibilityRow:
    obstacle = _gptq_obstacle(asked)
    if obstacle is not None:
        return CompatibilityRow(runtime=GPTQ, verdict="no", reason=obstacle, evidence="run")
    if asked.grid is not None and not asked.grid.is_symmetric:
        reason = "zero points in the second version of the format, which GPTQModel reads and vLLM does not"
        return verdict_by_source(GPTQ, None, reason, GPTQ_READ)
    reason = "weights equal to the last bit, packed in memory"
    if asked.is_encoder_decoder:
        return verdict_by_source(GPTQ, None, f"{reason}; tried on decoders alone", GPTQ_READ)
    return CompatibilityRow(runtime=GPTQ, verdict="yes", reason=reason, evidence="trial", versions=GPTQ_TRIED)


def _gptq_obstacle(asked: Asked) -> str | None:
    grid = asked.grid
    if grid is None:
        return "the export takes uniform grids only"
    if grid.num_bits not in GPTQ_BITS:
        return f"takes {either(GPTQ_BITS)} bits, not {grid.num_bits}"
    if grid.group_size not in GPTQ_GROUPS:
        return f"takes groups of {either(GPTQ_GROUPS)}, not {grid.group_size}"
    if not asked.all_linear or asked.has_experts:
        return "the export takes plain linear layers only"
    return odd_shape(asked.sizes, 32, 32)
