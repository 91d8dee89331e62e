"""What was done and how good it is: one frozen document that travels with the artifact."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe import Recipe


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceReport(_Frozen):
    """Where the weights came from."""

    id: str
    sha: str | None = None
    """The commit of the source, or None when it was a plain folder."""
    architecture: str
    dtype: str


class BitsPerWeight(_Frozen):
    """Bits over the compressed weights. `quantized` and `low_rank` follow the format's own arithmetic."""

    quantized: float
    low_rank: float
    total: float
    stored: float
    """What these weights take in the files, padding and wider scales counted."""


class SizeBytes(_Frozen):
    """Bytes on disk of all weight files."""

    source: int
    compressed: int


class TextReport(_Frozen):
    """Which tokens were used: enough to repeat the run and to notice a different text."""

    sequences: int
    sequence_length: int
    tokens: int
    token_sha256: str


class LearningReport(_Frozen):
    """How the block of a layer learned; the loss is the mean square over the block's output, all windows."""

    start_loss: float
    """Before learning, behind the compressed blocks before it."""
    loss: float
    """What learning reached, as it would be stored."""
    steps: int
    is_kept: bool
    """Whether the loss fell; otherwise the layers are those of the start."""


class LayerReport(_Frozen):
    """One compressed layer, with L and R rounded as they are stored."""

    name: str
    shape: tuple[int, int]
    """(out, in)."""
    rank: int
    preserved_rank: int
    iterations: int
    """The round that was kept, from 1."""
    output_error: float
    """‖x(W - Ŵ)‖ / ‖xW‖ over the calibration inputs, whatever scaling the recipe used."""
    output_error_quantized_only: float
    """The same for the final Q without L·R."""
    scaled_error: float
    """‖S(W - Ŵ)‖ / ‖SW‖ in the recipe's own scaling."""
    weight_error: float
    """‖W - Ŵ‖ / ‖W‖."""
    correction_ratio: float
    """‖L·R‖ / ‖W - Q‖; at most 1 up to rounding for a joint refit."""
    bits_per_weight: float
    calibration_tokens: int
    condition: float | None = None
    """Condition number of the mean of xᵀx, at least; None where it is singular."""
    seconds: float
    learning: LearningReport | None = None
    """Of the block the layer belongs to, where its rounding was learned."""
    notes: tuple[str, ...] = ()
    """Fallbacks taken in this layer, and doubts: damping raised, statistic singular, rank clamped, few tokens."""


class KeptTensor(_Frozen):
    """A weight left in its source precision, and why."""

    name: str
    reason: str


class Evaluation(_Frozen):
    """One metric of the source and of the artifact as re-read from disk."""

    name: str
    """For instance `token_perplexity@2048`; never comparable with word-level numbers."""
    protocol: str
    source: float
    compressed: float
    tokens: int
    """Predicted tokens the metric is over."""
    text: TextReport


class Environment(_Frozen):
    """What the numbers were computed with."""

    core_version: str
    versions: dict[str, str]
    device: str
    threads: int
    peak_memory_bytes: int


class SettingCount(_Frozen):
    """How many layers a budget gave one setting."""

    num_bits: int
    group_size: int
    layers: int


class BudgetReport(_Frozen):
    """What a budget bought."""

    weighting: Literal["fisher", "hidden"]
    """What errors were weighed by: the model's prediction, or its last hidden states where it predicts nothing."""
    budget_bytes: int
    """For the compressed weights, L·R included."""
    used_bytes: int
    estimated_cost: float
    """Nats per token the whole is estimated to lose; good for comparing settings, not a measurement."""
    rank: int
    """Of L·R in every layer, among those to choose from."""
    settings: tuple[SettingCount, ...]
    seconds: float
    """Of the search, scoring included where the score table was not there yet."""


class Report(_Frozen):
    """The whole result of one run. `report.json` in every artifact is this document."""

    schema_version: Literal[1] = 1
    source: SourceReport
    recipe: Recipe
    bits_per_weight: BitsPerWeight
    size_bytes: SizeBytes
    mean_output_error: float
    evaluation: tuple[Evaluation, ...]
    calibration: TextReport
    layers: tuple[LayerReport, ...]
    budget: BudgetReport | None = None
    """Where layers have settings of their own."""
    kept: tuple[KeptTensor, ...]
    environment: Environment
    seconds: dict[str, float]
    """By stage, each without the others: `calibrate` is running the model, `compress` decomposing its layers."""
    notes: tuple[str, ...] = ()
