"""What was done and how good it is: one frozen document that travels with the artifact."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe import Recipe
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
    kept: tuple[KeptTensor, ...]
    environment: Environment
    seconds: dict[str, float]
    """By stage, each without the others: `calibrate` is running the model, `compress` decomposing its layers."""
    notes: tuple[str, ...] = ()


REPORT_SCHEMA_VERSION = 1
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By the version they upgrade from, each to the next one. The first change of a report's form adds the first."""


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
