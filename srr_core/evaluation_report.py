"""What an evaluation outside of a compression found: one frozen document, evaluation.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from srr_core.report import Environment


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluatedModel(_Frozen):
    """One of the models."""

    id: str
    sha: str | None
    """The commit, or None for a plain folder."""
    architecture: str
    is_artifact: bool
    """Whether it is one of ours, packed, and not a model as it was trained."""
    weight_bytes: int
    """Of all weight files on disk."""


class EvaluationRow(_Frozen):
    """One number, of the model and of its source."""

    evaluator: str
    name: str
    """Such as `token_perplexity@2048` or `hellaswag:acc_norm`."""
    protocol: str
    """Everything that must be the same for another number to compare."""
    value: float
    source: float | None = None
    standard_error: float | None = None
    """Of the value."""
    difference: float | None = None
    """To the source, paired sample by sample where that can be."""
    difference_error: float | None = None
    difference_unit: str = ""
    """What the difference is in, where that is not what the value is in: perplexities differ in nats per token."""
    recovery_percent: float | None = None
    """How much of the source's score is left, chance not taken off; above 100 where the model is the better one."""
    higher_is_better: bool | None = None
    """None where neither is."""
    samples: int | None = None
    """Windows, pages, questions or pairs the number is over."""


class EvaluationReport(_Frozen):
    """The whole result of `srr evaluate`."""

    schema_version: Literal[1] = 1
    model: EvaluatedModel
    source: EvaluatedModel | None
    rows: tuple[EvaluationRow, ...]
    environment: Environment
    seconds: dict[str, float]
    """By evaluator."""
    datasets: dict[str, str] = {}
    """Dataset -> the commit it was read at."""
    notes: tuple[str, ...] = ()
