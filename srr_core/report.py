"""What was done and how good it is: one frozen document that travels with the artifact."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe import Direction, Recipe
from srr_core.recipe.upgrade import upgraded_recipe


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


class LayerSpectrum(_Frozen):
    """The leading singular values in the recipe's own scaling, each as a share of ‖W·Sᵀ‖, at most 64 of them."""

    weight: tuple[float, ...]
    """Of the scaled weight; empty where the recipe preserves nothing and so never looked."""
    error: tuple[float, ...]
    """Of the scaled error of Q, which L·R is taken from; empty where it was not fitted as a whole."""


class LayerReport(_Frozen):
    """One compressed layer, with L and R rounded as they are stored."""

    name: str
    shape: tuple[int, int]
    """(out, in)."""
    rank: int
    preserved_rank: int
    preserved_overlap: float | None = None
    """Share of the preserved directions that the first `preserved_rank` columns of L span: 1 where they are kept, a
    little less after a joint refit; None where k is 0, and in older reports."""
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
    spectrum: LayerSpectrum | None = None
    """None at rank 0, for experts, of which a model may have a hundred thousand, and in older reports."""
    learning: LearningReport | None = None
    """Of the block the layer belongs to, where its rounding was learned."""
    notes: tuple[str, ...] = ()
    """Fallbacks taken in this layer, and doubts: damping raised, statistic singular, rank clamped, few tokens."""


class KeptTensor(_Frozen):
    """A weight left in its source precision, and why."""

    name: str
    reason: str


class Answer(_Frozen):
    """What the source and the result made of one prompt, both greedily."""

    prompt: str
    source: str
    compressed: str
    same_tokens: int
    """From the first on that both answered alike."""
    source_tokens: int
    compressed_tokens: int


class Measurement(_Frozen):
    """One metric of the artifact as re-read from disk, beside its source."""

    evaluator: str
    """The `kind` of the evaluator."""
    metric: str
    """For instance `token_perplexity@2048`; rows of the same metric and text compare, others do not."""
    title: str
    """The metric in words, for people."""
    unit: str
    """Empty for a plain number."""
    direction: Direction
    """Which values are the better ones."""
    source: float | None
    """What the source has, or None where it was not measured; a metric of the difference itself says what no difference
    is."""
    compressed: float
    difference: float | None = None
    """From the source, paired sample by sample, in `difference_unit`."""
    difference_unit: str = ""
    standard_error: float | None = None
    """Over samples; of the difference, or of the value where there is none."""
    protocol: str
    """Everything that must be the same for another number to compare."""
    tokens: int | None = None
    """Predicted tokens the metric is over."""
    text: TextReport | None = None
    details: dict[str, float] = {}
    """Further numbers of the same measurement, by name."""
    value_error: float | None = None
    """Standard error of the compressed value itself, where `standard_error` is that of the difference."""
    samples: int | None = None
    """Windows, pages, questions or pairs the metric is over."""
    recovery_percent: float | None = None
    """How much of the source's score is left, chance not taken off; above 100 where the result is the better one."""
    answers: tuple[Answer, ...] = ()
    """Of a measure of texts: both, to be read side by side."""

    @property
    def is_told_apart(self) -> bool:
        """Whether the result differs from its source by two standard errors or more; True where nobody can say."""
        if self.difference is None or self.standard_error is None:
            return True
        return abs(self.difference) >= 2 * self.standard_error

    def number(self, value: float) -> str:
        """A value of this metric for people: three decimals from 1 up, four below, where small numbers differ."""
        return f"{value:.3f}" if abs(value) >= 1 else f"{value:.4f}"

    def note(self) -> str:
        """How far the result is from its source, or how sure its value is, in words; empty where nobody can say."""
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        if self.difference is None:
            return error.strip() and f"{error.strip()} {self.unit}".strip()
        doubt = "" if self.is_told_apart else ", within the noise"
        return f"{self.difference:+.4f}{error} {self.difference_unit}".strip() + doubt


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
    probed_divergence: float | None = None
    """Where the target is one: measured over the calibration windows, before anything learned. Nats per token."""
    rank: int
    """Of L·R in every layer, among those to choose from."""
    settings: tuple[SettingCount, ...]
    seconds: float
    """Of the search, scoring included where the score table was not there yet."""


class RepairReport(_Frozen):
    """What L·R and scales learned at the end, the model as a whole."""

    loss: Literal["divergence", "hidden"]
    """divergence: KL(source ‖ compressed) in nats per token; hidden: the squared error of the last hidden states as a
    share of their square, where the model predicts no token."""
    parts: tuple[Literal["low_rank", "scales"], ...]
    """Those that there were to learn."""
    parameters: int
    windows: int
    """Learned from, each once in an epoch."""
    held_out_windows: int
    """That only judged."""
    start_loss: float
    """Over the held-out windows, before."""
    best_loss: float
    """Of the state that was kept, as it is stored."""
    steps: int
    best_step: int
    """0: nothing was better than the start, which was kept."""
    end: Literal["finished", "no better", "diverged"]
    seconds: float
    before: tuple[Measurement, ...] = ()
    """The measurements of the report as they were before, on text that neither calibration nor repair saw."""


class BaselineReport(_Frozen):
    """A simple method at the bits nearest to the recipe's, quantized and measured in the same run, and not written."""

    recipe: Recipe
    """A run of it gives this result; behind compressed blocks the statistics are those of the run it was beside."""
    bits_per_weight: float
    """Over the compressed weights, scales counted."""
    size_bytes: int
    """Of all weight files that a run of it would write."""
    mean_output_error: float
    measurements: tuple[Measurement, ...]
    """On the windows at which the artifact's divergence is measured; a perplexity is over these alone."""
    divergence_gap: float | None = None
    """Divergence of the artifact less that of the baseline, paired window by window; None where it was not measured."""
    divergence_gap_error: float | None = None
    """Its standard error over windows; None with a single one."""
    seconds: float
    """Of quantizing its layers."""


class Report(_Frozen):
    """The whole result of one run. `report.json` in every artifact is this document."""

    schema_version: Literal[2] = 2
    source: SourceReport
    recipe: Recipe
    bits_per_weight: BitsPerWeight
    size_bytes: SizeBytes
    mean_output_error: float
    measurements: tuple[Measurement, ...]
    """The most telling first."""
    calibration: TextReport
    evaluation_seen: float = 0.0
    """Share of the evaluation windows that lie in the calibration text; 0 in older reports, too."""
    layers: tuple[LayerReport, ...]
    budget: BudgetReport | None = None
    """Where layers have settings of their own."""
    repair: RepairReport | None = None
    """Where L·R and scales learned at the end; the errors of layers are those before."""
    baselines: tuple[BaselineReport, ...] = ()
    """In the order the recipe names them; their time is the stage `baselines`."""
    kept: tuple[KeptTensor, ...]
    is_stock: bool | None = None
    """Whether it was written as transformers with compressed-tensors and peft reads it, and not in our own layout; None
    in older reports."""
    environment: Environment
    seconds: dict[str, float]
    """By stage, each without the others: `calibrate` is running the model, `compress` decomposing its layers."""
    notes: tuple[str, ...] = ()


REPORT_SCHEMA_VERSION = 2


def read_report(stored: Mapping[str, Any]) -> Report:
    """Return a report that was written by this version, an older or a newer one; fields it does not know are ignored.

    Raises:
        ValueError: it says something this version has no word for, or is no report.
    """
    report = dict(stored)
    version = report.get("schema_version", 1)
    while version in _UPGRADES:
        report = _UPGRADES[version](report)
        version += 1
    if isinstance(report.get("recipe"), Mapping):
        report["recipe"] = upgraded_recipe(report["recipe"])
    return Report.model_validate(report | {"schema_version": REPORT_SCHEMA_VERSION}, extra="ignore")


def _measurements(report: dict[str, Any]) -> dict[str, Any]:
    """The first version knew one metric, the perplexity per token, and neither a difference nor its error."""
    found = report.pop("evaluation", ())
    if not isinstance(found, list | tuple) or not all(isinstance(row, Mapping) for row in found):
        raise ValueError(f"the evaluation of a report of the first version is a list of rows, not {found!r:.100}")
    words = {"evaluator": "perplexity", "title": "Perplexity per token", "unit": "", "direction": "lower"}
    return {**report, "measurements": [words | dict(row) | {"metric": row.get("name")} for row in found]}


_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _measurements}
"""By the version they upgrade from, each to the next one."""
