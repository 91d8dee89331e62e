"""llama.cpp on a recipe: which GGUF block type holds the grid, and which models the export knows."""

from collections.abc import Collection

from srr_core.recipe.uniform_grid import UniformGrid
from srr_core.recipe.verdicts import Asked, CompatibilityRow, Shape, either, odd_shape

LLAMA_CPP = "llama.cpp (srr export --to gguf)"
GGUF_BLOCK = 32
GGUF_SUPERBLOCK = 256
GGUF_WINDOWS = {2: 3, 3: 5, 4: 7, 5: 7, 6: 7}
"""Bits to the spread of exponents in a super-block that Q2_K, Q3_K and Q6_K hold exactly."""
GGUF_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
PLAIN_ROPE = "default"


def llama_cpp_row(asked: Asked, architecture: str, rope: str) -> CompatibilityRow:
    """Return llama.cpp's verdict.

    Args:
        architecture: The class that config.json names.
        rope: The type of its rotary embedding.
    """
    grid = asked.grid
    obstacle = _gguf_obstacle(grid, asked.sizes, has_experts=asked.has_experts) or _model_obstacle(architecture, rope)
    if obstacle is not None or grid is None:
        return CompatibilityRow(runtime=LLAMA_CPP, verdict="no", reason=str(obstacle), evidence="run")
    reason = f"{gguf_type(grid.num_bits, grid.group_size, is_power_of_two=grid.is_power_of_two)} holds Q exactly"
    return CompatibilityRow(runtime=LLAMA_CPP, verdict="yes", reason=f"{reason}, L·R in a LoRA file", evidence="run")


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
        return odd_shape(sizes, 1, GGUF_BLOCK)
    if not grid.is_power_of_two or grid.num_bits > 6:
        return f"no block type holds {grid.num_bits} bits in groups of {grid.group_size} exactly; use groups of 32"
    odd = odd_shape(sizes, 1, GGUF_SUPERBLOCK)
    window = GGUF_WINDOWS.get(grid.num_bits)
    if odd is None and window is not None and (grid.exponent_window is None or grid.exponent_window > window):
        return (
            f"{gguf_type(grid.num_bits, grid.group_size, is_power_of_two=True)} is exact only with "
            f"quantizer.exponent_window <= {window}; without it the export is refused where a super-block "
            "spreads further"
        )
    return odd


def _model_obstacle(architecture: str, rope: str) -> str | None:
    if architecture not in GGUF_ARCHITECTURES:
        known = either(GGUF_ARCHITECTURES)
        return f"the export knows {known}, not {architecture or 'a model without a class'}; export merged instead"
    if rope != PLAIN_ROPE:
        return f"rotary embeddings of type {rope} are not exported; export merged instead"
    return None
