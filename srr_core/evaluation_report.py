"""What an evaluation outside of a compression found: one frozen document, evaluation.json."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.report import Environment, Measurement


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


class EvaluationReport(_Frozen):
    """The whole result of `srr evaluate`."""

    schema_version: Literal[1] = 1
    model: EvaluatedModel
    source: EvaluatedModel | None
    measurements: tuple[Measurement, ...]
    """In each, `compressed` is the model, whatever it is."""
    environment: Environment
    seconds: dict[str, float]
    """By evaluator."""
    datasets: dict[str, str] = {}
    """Dataset -> the commit it was read at."""
    notes: tuple[str, ...] = ()


def read_evaluation_report(stored: Mapping[str, Any]) -> EvaluationReport:
    """Return a report that was written by this version or a newer one; fields it does not know are ignored.

    Raises:
        ValueError: it says something this version has no word for, or is no report.
    """
    return EvaluationReport.model_validate({**stored, "schema_version": 1}, extra="ignore")
