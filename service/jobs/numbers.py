"""The few numbers of a report that a list of jobs shows, so that no list has to read whole reports."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Measurement, Report
from srr_core.telling.sizes import bits_of_model, bits_words

_PERPLEXITIES = ("perplexity", "word-perplexity")


class JobNumbers(BaseModel):
    """What came of a finished job, in numbers; null for what its report does not say."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    divergence: float | None = Field(default=None, description="KL(source ‖ result), in nats per token.")
    divergence_error: float | None = Field(default=None, description="Its standard error over windows.")
    perplexity: float | None = None
    perplexity_change: float | None = Field(
        default=None, description="Against the source, as a share of the source's perplexity: 0.04 is 4 % more."
    )
    bits_of_model: float | None = Field(
        default=None, description="Bits per weight over the whole model: all weight files over all parameters, about."
    )
    bits_per_weight: float | None = Field(default=None, description="Over the compressed weights, L·R counted.")
    size_bytes: int | None = Field(default=None, description="Of all weight files.")


NO_NUMBERS = JobNumbers()


def numbers_of(report: BaseModel) -> JobNumbers:
    """Return the numbers of a report of any kind of work."""
    if isinstance(report, Report):
        return JobNumbers(
            **_measured(report.measurements),
            bits_of_model=bits_of_model(report),
            bits_per_weight=report.bits_per_weight.total,
            size_bytes=report.size_bytes.compressed,
        )
    if isinstance(report, EvaluationReport):
        return JobNumbers(**_measured(report.measurements), size_bytes=report.model.weight_bytes)
    if isinstance(report, ConversionReport):
        return JobNumbers(size_bytes=report.weight_bytes)
    return NO_NUMBERS


def number_words(numbers: JobNumbers) -> dict[str, str]:
    """Return the numbers in words, as the list of jobs has them; empty for what is not known."""
    divergence, change = numbers.divergence, numbers.perplexity_change
    error = "" if numbers.divergence_error is None else f" ± {numbers.divergence_error:.4f}"
    changed = "" if change is None else f", {100 * change:+.1f} %"
    return {
        "divergence": "" if divergence is None else f"{divergence:.4f}{error}",
        "perplexity": "" if numbers.perplexity is None else f"{numbers.perplexity:.2f}{changed}",
        "bits": bits_words(numbers.bits_per_weight, numbers.bits_of_model),
        "size": "" if numbers.size_bytes is None else size_words(numbers.size_bytes),
    }


def _measured(rows: Sequence[Measurement]) -> dict[str, float | None]:
    """Return the first divergence and the first perplexity: the most telling row of a report stands first."""
    divergence = next((row for row in rows if row.evaluator == "divergence"), None)
    perplexity = next((row for row in rows if row.evaluator in _PERPLEXITIES), None)
    found: dict[str, float | None] = {}
    if divergence is not None:
        found |= {"divergence": divergence.compressed, "divergence_error": divergence.standard_error}
    if perplexity is not None:
        found["perplexity"] = perplexity.compressed
        if perplexity.source:
            found["perplexity_change"] = perplexity.compressed / perplexity.source - 1
    return found
