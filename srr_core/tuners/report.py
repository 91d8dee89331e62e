"""What a fine-tuning did: one frozen document, `tuning.json`, that travels with its result. Read without torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.upgrade import upgraded_tuning
from srr_core.report import Environment, SourceReport, TextReport
from srr_core.tuners.data_report import DataReport

REPORT_NAME = "tuning.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepRow(_Frozen):
    """One step of the optimizer."""

    step: int
    """From 1."""
    loss: float
    """Mean over the targets of the step."""
    learning_rate: float
    gradient_norm: float
    """Of all trained parameters together, before clipping."""
    tokens: int
    """Read, padding left out."""
    seconds: float


class EvaluationRow(_Frozen):
    """One evaluation on the validation examples."""

    step: int
    """Steps done before it; 0 is the start."""
    scores: dict[str, float]


class CheckpointRow(_Frozen):
    """One checkpoint that was made durable."""

    cell: int
    """Which training of the run, from 0."""
    step: int
    num_bytes: int
    """On disk, the optimizer's state included."""
    scores: dict[str, float]
    """Of the evaluation at this step; empty where there was none."""
    is_best: bool
    """Whether it was the best of its training when it was written."""


class CellReport(_Frozen):
    """One training: a learning rate and a seed."""

    learning_rate: float
    seed: int
    steps: int
    best_step: int | None
    """None where no evaluation after a step gave a number."""
    best_score: float | None
    end: Literal["finished", "no better", "diverged"]
    rows: tuple[StepRow, ...]
    evaluations: tuple[EvaluationRow, ...]


class RateReport(_Frozen):
    """A learning rate over all seeds: the mean of their best scores, and how far they scatter."""

    learning_rate: float
    mean: float | None
    """None where a seed diverged."""
    deviation: float | None
    """Standard deviation of the sample; None for one seed."""
    seeds: int


class NeutralReport(_Frozen):
    """How far the model has moved on a text that has nothing to do with the task."""

    text: TextReport
    divergence: float
    """Mean over tokens of the Kullback-Leibler divergence of the trained model from its start, in nats."""
    loss_before: float
    loss_after: float


class StartReport(_Frozen):
    """Where the training began."""

    kind: Literal["lora", "recipe", "artifact"]
    is_fresh: bool
    """Whether the adapter began at zero."""
    rank: int
    base_sha256: str
    """Of the codes and scales of every compressed layer, or of their 16-bit weights: never changed by the training."""
    trained_parameters: int
    frozen_bytes: int
    """Of the base in memory while training."""
    mean_preserved_rank: float | None = None
    """k, where the start preserves directions."""
    mean_preserved_overlap: float | None = None
    """How much of the preserved directions the first k ranks span: 1 where they were kept, less after a joint refit."""


class TuningReport(_Frozen):
    """The whole result of one fine-tuning."""

    schema_version: Literal[1] = 1
    source: SourceReport
    spec: TuningSpec
    """As it was run: every "auto" resolved."""
    start: StartReport
    data: DataReport
    metric: str
    is_higher_better: bool
    start_scores: dict[str, float]
    """Before the first step."""
    scores: dict[str, float]
    """Of the result as it was read back from disk, with factors rounded as they are stored."""
    cells: tuple[CellReport, ...]
    rates: tuple[RateReport, ...]
    chosen: tuple[float, int]
    """Learning rate and seed of the published checkpoint."""
    neutral: NeutralReport | None = None
    kept: tuple[int, ...] = ()
    """Steps of the published training whose checkpoints travel with the result."""
    environment: Environment
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def read_tuning_report(stored: Mapping[str, Any]) -> TuningReport:
    """Return a report that was written by this version or a newer one; fields it does not know are ignored.

    Raises:
        ValueError: it says something this version has no word for, or is no report.
    """
    spec = stored.get("spec")
    known = {"schema_version": 1, "spec": upgraded_tuning(spec) if isinstance(spec, Mapping) else spec}
    return TuningReport.model_validate({**stored, **known}, extra="ignore")
