"""The estimate of a job before it runs, as rows of words."""

from collections.abc import Iterable

from service.submissions.schema import Estimate, TrainingEstimate
from service.web.formatting import count_words, duration
from srr_core.recipe import Recipe
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.verdicts import CompatibilityRow

_LABELS = {
    "layers": "Layers to compress",
    "bits_of_model": "Bits over the whole model",
    "bits_per_weight": "Bits in the compressed layers",
    "artifact_bytes": "Size of the result",
    "scratch_bytes": "Disk while it works",
    "memory_bytes": "Memory while it works",
    "seconds": "Time",
    "gpu_minutes": "GPU time",
    "trained_parameters": "Parameters that learn",
    "tokens": "Tokens of a training",
    "base_bytes": "The base in memory",
    "tokens_per_second": "Tokens a second before",
}
_UNKNOWN = {"seconds": "Not known before a first job"}
_MANY = 1000
_ADAPTER = "L·R"


def estimate_rows(estimate: Estimate | TrainingEstimate) -> list[tuple[str, str]]:
    """Return a label and a text for every number of an estimate that is known, whichever there are.

    The unit follows from the name of the field; a field without words here gets its name for a label.
    """
    rows = []
    for name, value in estimate.model_dump().items():
        text = _UNKNOWN.get(name) if value is None else _text(name, value)
        if text is not None:
            rows.append((_LABELS.get(name) or _label(name), text))
    return rows


def relevant_rows(rows: Iterable[CompatibilityRow], recipe: Recipe) -> list[CompatibilityRow]:
    """Return the verdicts that say something: without a rank there is no adapter for a runtime to load."""
    return [row for row in rows if recipe.rank > 0 or not row.runtime.endswith(f"({_ADAPTER})")]


def _text(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size_words(round(value))
    if name.endswith("seconds"):
        return duration(value)
    if name.endswith("_minutes"):
        return duration(value * 60)
    return count_words(round(value)) if value >= _MANY else f"{value:.3g}"


def _label(name: str) -> str:
    words = name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")
    return words[:1].upper() + words[1:]
