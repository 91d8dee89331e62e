"""How much text the activation statistics are taken from, and how the result is judged."""

from typing import Literal

from pydantic import Field, field_validator

from srr_core.recipe.base import Spec
from srr_core.recipe.evaluators import DivergenceSpec, EvaluatorSpec, PerplexitySpec


class CalibrationSpec(Spec):
    """Windows cut in order from one text; each is a sample of what the layers see.

    A window longer than the model's context is shortened to it, and the report says so.
    """

    num_sequences: int = Field(default=128, ge=1, le=100_000)
    sequence_length: int = Field(default=2048, ge=8, le=131_072)
    batch_size: int = Field(default=4, ge=1, le=1024)
    inputs: Literal["source", "compressed"] = Field(
        default="source",
        description="What a block is calibrated on: its inputs in the source, or behind the blocks compressed so far.",
    )


class EvaluationSpec(Spec):
    """What the result is measured by, and the windows of the one text that measures per token are taken over."""

    num_sequences: int = Field(default=128, ge=1, le=100_000)
    sequence_length: int = Field(default=2048, ge=8, le=131_072)
    batch_size: int = Field(default=4, ge=1, le=1024)
    evaluators: tuple[EvaluatorSpec, ...] = Field(default=(DivergenceSpec(), PerplexitySpec()), min_length=1)

    @field_validator("evaluators")
    @classmethod
    def _each_once(cls, evaluators: tuple[EvaluatorSpec, ...]) -> tuple[EvaluatorSpec, ...]:
        kinds = [evaluator.kind for evaluator in evaluators]
        if len(set(kinds)) < len(kinds):
            raise ValueError("each evaluator is named once at most")
        return evaluators
