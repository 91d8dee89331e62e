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
LLAMA_ROPE = "llama3"
GGUF_ROPES = {"LlamaForCausalLM": (PLAIN_ROPE, LLAMA_ROPE)}
"""Types of rotary embedding that are exported, where there are others than the plain one."""


def llama_cpp_row(asked: Asked, architecture: str, rope: str) -> CompatibilityRow:
    """Return llama.cpp's verdict: one file by default, rounded where it has to be, and what holds Q exactly.

    Args:
        architecture: The class that config.json names.
        rope: The type of its rotary embedding.
    """
    obstacle = (
        "experts are not exported to GGUF yet; export merged instead"
        if asked.has_experts
        else _model_obstacle(architecture, rope) or odd_shape(asked.sizes, 1, GGUF_BLOCK)
    )
    if obstacle is not None:
        return CompatibilityRow(runtime=LLAMA_CPP, verdict="no", reason=obstacle, evidence="run")
    exact = _held(asked.grid, asked.sizes)
    alone = f"{exact}; L·R in a LoRA file beside it by --set merged=none" if asked.rank else exact
    one = f"one file, Q + L·R rounded to {rounded_type(asked.grid)} with the error stated"
    reason = f"{one}; {alone}" if asked.rank or exact.startswith("no ") else exact
    return CompatibilityRow(runtime=LLAMA_CPP, verdict="yes", reason=reason, evidence="run")


def rounded_type(grid: UniformGrid | None) -> str:
    """Return the block type that Q + L·R is rounded to unless another is asked for: finer than the grid by far."""
    return "Q8_0" if grid is not None and grid.num_bits >= 6 else "Q6_K"


def holds_packed(grid: UniformGrid | None) -> bool:
    """Return whether some block type may hold the codes of a grid themselves."""
    if grid is None:
        return False
    if not grid.is_symmetric:
        return offset_type(grid.num_bits, grid.group_size) is not None
    return grid.group_size >= GGUF_BLOCK or (grid.is_power_of_two and grid.num_bits <= 6)


def offset_type(num_bits: int, group_size: int) -> str | None:
    """Return the GGUF block type with an offset that holds codes with zero points, or None.

    The K types have offsets too, but of six bits: they would round every scale. These round the offset alone.
    """
    if group_size < GGUF_BLOCK or num_bits > 5:
        return None
    return "Q4_1" if num_bits <= 4 else "Q5_1"


def gguf_type(num_bits: int, group_size: int, *, is_power_of_two: bool) -> str:
    """Return the smallest GGUF block type that may hold a symmetric grid exactly."""
    if group_size < GGUF_BLOCK:
        return {2: "Q2_K", 3: "Q3_K"}.get(num_bits, "Q6_K" if num_bits <= 6 else "none")
    if is_power_of_two and num_bits <= 3:
        return "MXFP4"
    return "Q4_0" if num_bits <= 4 else "Q5_0" if num_bits == 5 else "Q8_0"


def _held(grid: UniformGrid | None, sizes: Collection[Shape]) -> str:
    """Return which block type holds Q exactly, as a clause; it begins with "no" where none does."""
    if grid is None or not holds_packed(grid):
        return "no block type holds these codes exactly"
    if not grid.is_symmetric:
        return f"{offset_type(grid.num_bits, grid.group_size)} holds Q but for offsets, which it rounds to fp16"
    name = gguf_type(grid.num_bits, grid.group_size, is_power_of_two=grid.is_power_of_two)
    if grid.group_size >= GGUF_BLOCK:
        return f"{name} holds Q exactly"
    if odd_shape(sizes, 1, GGUF_SUPERBLOCK):
        return "no block type holds these codes exactly"
    window = GGUF_WINDOWS[grid.num_bits]
    if grid.exponent_window is None or grid.exponent_window > window:
        return f"{name} holds Q exactly where exponents spread little, always with exponent_window <= {window}"
    return f"{name} holds Q exactly"


def _model_obstacle(architecture: str, rope: str) -> str | None:
    if architecture not in GGUF_ARCHITECTURES:
        known = either(GGUF_ARCHITECTURES)
        return f"the export knows {known}, not {architecture or 'a model without a class'}; export merged instead"
    if rope not in GGUF_ROPES.get(architecture, (PLAIN_ROPE,)):
        return f"rotary embeddings of type {rope} are not exported; export merged instead"
    return None
