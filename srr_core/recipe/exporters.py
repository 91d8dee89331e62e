"""Which format an artifact is converted into."""

from typing import Annotated, Literal

from pydantic import Field

from srr_core.recipe.base import Spec


class MergedSpec(Spec):
    """Dense safetensors in which Q + L·R is one matrix; loads everywhere, saves nothing in size."""

    kind: Literal["merged"] = "merged"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"


class AdapterSpec(Spec):
    """L·R alone, a PEFT adapter for a base repository that holds Q."""

    kind: Literal["adapter"] = "adapter"
    base_model: str | None = Field(default=None, description="Repository id of Q; the artifact's own by default.")


class GPTQFormatSpec(Spec):
    """Q in the tensors of GPTQ, L·R as a PEFT adapter beside it; 2, 3, 4 or 8 bits."""

    kind: Literal["gptq"] = "gptq"


class GGUFSpec(Spec):
    """One file for llama.cpp: Q in block types that hold it exactly, or Q + L·R rounded to one; or Q and L·R in two."""

    kind: Literal["gguf"] = "gguf"
    merged: Literal["auto", "none", "q4_k", "q6_k", "q8_0", "f16", "bf16", "f32"] = Field(
        default="auto",
        description="Write Q + L·R as one file of this type. auto: without L·R, Q exactly where a block type holds it; "
        "else q6_k, or q8_0 for 6 bits and more. none: Q exactly, and L·R in a second file.",
    )
    allow_inexact: bool = Field(
        default=False, description="Round weights that no block type of their size holds exactly, and count them."
    )


EXPORT_FORMATS: tuple[str, ...] = ("merged", "adapter", "gptq", "gguf")
"""Every `kind` below."""
ExportSpec = Annotated[MergedSpec | AdapterSpec | GPTQFormatSpec | GGUFSpec, Field(discriminator="kind")]
ConversionKind = Literal["gguf", "gptq", "merged"]
CONVERSION_FORMATS: tuple[ConversionKind, ...] = ("gguf", "gptq", "merged")
"""Every `kind` below."""
ConversionSpec = Annotated[GGUFSpec | GPTQFormatSpec | MergedSpec, Field(discriminator="kind")]
"""Formats that make one repository; an adapter apart from its base would be two."""
