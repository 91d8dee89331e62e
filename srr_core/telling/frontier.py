"""Quality over bytes: the artifact of a run, the methods that ran beside it, and the source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from srr_core.recipe import DivergenceSpec, PerplexitySpec
from srr_core.report import Measurement, Report

SAME_SIZE = 0.02
"""Share of the bytes by which files may differ and still count as equally large."""
_BITS = {"float32": 32.0, "float64": 64.0, "float16": 16.0, "bfloat16": 16.0}
_EVALUATORS = {"divergence": DivergenceSpec().kind, "perplexity": PerplexitySpec().kind}


@dataclass(frozen=True)
class FrontierRow:
    """One way to have the model."""

    name: str
    """Of the recipe, or `source`."""
    kind: Literal["artifact", "baseline", "source"]
    size_bytes: int
    """Of all weight files."""
    bits_per_weight: float | None
    """Over the compressed weights, scales and L·R counted; of the source by its type, None where it is another."""
    divergence: float | None
    """From the source, nats per token; None where it was not measured."""
    divergence_error: float | None
    perplexity: float | None
    """None where it is not over the windows of the artifact's."""
    size_gap: float
    """Bytes above those of the artifact, as a share of them; negative for smaller files."""

    @property
    def is_same_size(self) -> bool:
        """Whether its files are as large as those of the artifact."""
        return abs(self.size_gap) <= SAME_SIZE

    @property
    def size_note(self) -> str:
        """How much larger or smaller than the artifact it is; empty where it is as large."""
        if self.is_same_size or self.kind != "baseline":
            return ""
        return f"{100 * abs(self.size_gap):.0f} % {'larger' if self.size_gap > 0 else 'smaller'} than this artifact"


def frontier(report: Report) -> tuple[FrontierRow, ...]:
    """Return the artifact, its baselines and the source, in this order."""
    return tuple(_rows(report))


def divergence_of(measurements: tuple[Measurement, ...]) -> Measurement | None:
    """Return the divergence from the source, where it was measured."""
    return _first(measurements, "divergence")


def _rows(report: Report) -> Iterator[FrontierRow]:
    size, measurements = report.size_bytes.compressed, report.measurements
    own = _first(measurements, "perplexity")
    perplexity = None if own is None else own.compressed
    yield _row(report.recipe.name, "artifact", size, report.bits_per_weight.total, measurements, perplexity, size)
    for baseline in report.baselines:
        yield _row(
            baseline.recipe.name,
            "baseline",
            baseline.size_bytes,
            baseline.bits_per_weight,
            baseline.measurements,
            _comparable(own, _first(baseline.measurements, "perplexity")),
            size,
        )
    source = report.size_bytes.source
    yield FrontierRow(
        name="source",
        kind="source",
        size_bytes=source,
        bits_per_weight=_BITS.get(report.source.dtype),
        divergence=None if divergence_of(measurements) is None else 0.0,
        divergence_error=None,
        perplexity=None if own is None else own.source,
        size_gap=_gap(source, size),
    )


def _row(
    name: str,
    kind: Literal["artifact", "baseline"],
    size_bytes: int,
    bits: float,
    measurements: tuple[Measurement, ...],
    perplexity: float | None,
    artifact_bytes: int,
) -> FrontierRow:
    divergence = divergence_of(measurements)
    return FrontierRow(
        name=name,
        kind=kind,
        size_bytes=size_bytes,
        bits_per_weight=bits,
        divergence=None if divergence is None else divergence.compressed,
        divergence_error=None if divergence is None else divergence.standard_error,
        perplexity=perplexity,
        size_gap=_gap(size_bytes, artifact_bytes),
    )


def _first(measurements: tuple[Measurement, ...], name: str) -> Measurement | None:
    return next((row for row in measurements if row.evaluator == _EVALUATORS[name]), None)


def _comparable(own: Measurement | None, other: Measurement | None) -> float | None:
    """Return a perplexity that is over the same windows as that of the artifact."""
    if own is None or other is None or (own.protocol, own.text) != (other.protocol, other.text):
        return None
    return other.compressed


def _gap(size_bytes: int, artifact_bytes: int) -> float:
    return size_bytes / artifact_bytes - 1 if artifact_bytes else 0.0
