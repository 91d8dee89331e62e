"""The few numbers of a report that a list of jobs shows, so that no list has to read whole reports."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.report import Measurement, Report

_DTYPE_BITS: Final[Mapping[str, int]] = MappingProxyType({"float32": 32, "float16": 16, "bfloat16": 16})
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


def bits_of_model(report: Report) -> float | None:
    """Return the bits per weight over the whole model, what was kept included.

    The source says how many weights there are by its bytes; None where it is stored in no plain type.
    """
    bits, size = _DTYPE_BITS.get(report.source.dtype), report.size_bytes
    return None if bits is None or size.source <= 0 else bits * size.compressed / size.source


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
