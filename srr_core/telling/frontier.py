"""Quality over bytes: the artifact of a run, the methods that ran beside it, earlier results, and the source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from srr_core.recipe import DivergenceSpec, PerplexitySpec
from srr_core.report import Measurement, Report
from srr_core.telling.sizes import bits_of_model

SAME_SIZE = 0.02
"""Share of the bytes by which files may differ and still count as equally large."""
_EVALUATORS = {"divergence": DivergenceSpec().kind, "perplexity": PerplexitySpec().kind}


@dataclass(frozen=True)
class Earlier:
    """Another result of the same source."""

    report: Report
    reference: str
    """What finds it: the id of its job, for instance."""


@dataclass(frozen=True)
class FrontierRow:
    """One way to have the model."""

    name: str
    """Of the recipe, or `source`."""
    kind: Literal["artifact", "baseline", "earlier", "source"]
    size_bytes: int
    """Of all weight files."""
    bits_per_weight: float | None
    """Over the compressed weights, scales and L·R counted; of the source by its type, None where it is another."""
    bits_of_model: float | None
    """Over all weights, those included that are kept; None where the source is stored in no plain type."""
    divergence: float | None
    """From the source, nats per token; None where it was not measured."""
    divergence_error: float | None
    perplexity: float | None
    """None where it is not over the windows of the artifact's."""
    size_gap: float
    """Bytes above those of the artifact, as a share of them; negative for smaller files."""
    reference: str = ""
    """Of an earlier result, what finds it."""

    @property
    def is_same_size(self) -> bool:
        """Whether its files are as large as those of the artifact."""
        return abs(self.size_gap) <= SAME_SIZE

    @property
    def size_note(self) -> str:
        """How much larger or smaller than the artifact it is; empty where it is as large."""
        return gap_words(self.size_gap, "this artifact") if self.kind in ("baseline", "earlier") else ""


def gap_words(size_gap: float, other: str) -> str:
    """Return how much larger or smaller files are than others; empty where they are as large.

    Args:
        size_gap: Bytes above those of the others, as a share of them.
        other: Whose files those are.
    """
    if abs(size_gap) <= SAME_SIZE:
        return ""
    return f"{100 * abs(size_gap):.0f} % {'larger' if size_gap > 0 else 'smaller'} than {other}"


def frontier(report: Report, earlier: Sequence[Earlier] = ()) -> tuple[FrontierRow, ...]:
    """Return the artifact, its baselines, earlier results that were measured in the same way, and the source.

    Args:
        earlier: Of the same source. One whose divergence is by another protocol or on another text is left out.
    """
    return tuple(_rows(report, earlier))


def divergence_of(measurements: tuple[Measurement, ...]) -> Measurement | None:
    """Return the divergence from the source, where it was measured."""
    return _first(measurements, "divergence")


def _rows(report: Report, earlier: Sequence[Earlier]) -> Iterator[FrontierRow]:
    measurements = report.measurements
    own = _first(measurements, "perplexity")
    perplexity = None if own is None else own.compressed
    size = report.size_bytes.compressed
    yield _row(report, report.recipe.name, "artifact", size, report.bits_per_weight.total, measurements, perplexity)
    for baseline in report.baselines:
        yield _row(
            report,
            baseline.recipe.name,
            "baseline",
            baseline.size_bytes,
            baseline.bits_per_weight,
            baseline.measurements,
            _comparable(own, _first(baseline.measurements, "perplexity")),
        )
    for other in earlier:
        if _is_comparable(report, other.report):
            yield _earlier(report, other, own)
    source = report.size_bytes.source
    yield FrontierRow(
        name="source",
        kind="source",
        size_bytes=source,
        bits_per_weight=bits_of_model(report, source),
        bits_of_model=bits_of_model(report, source),
        divergence=None if divergence_of(measurements) is None else 0.0,
        divergence_error=None,
        perplexity=None if own is None else own.source,
        size_gap=_gap(source, size),
    )


def _row(
    report: Report,
    name: str,
    kind: Literal["artifact", "baseline", "earlier"],
    size_bytes: int,
    bits: float,
    measurements: tuple[Measurement, ...],
    perplexity: float | None,
) -> FrontierRow:
    divergence = divergence_of(measurements)
    return FrontierRow(
        name=name,
        kind=kind,
        size_bytes=size_bytes,
        bits_per_weight=bits,
        bits_of_model=bits_of_model(report, size_bytes),
        divergence=None if divergence is None else divergence.compressed,
        divergence_error=None if divergence is None else divergence.standard_error,
        perplexity=perplexity,
        size_gap=_gap(size_bytes, report.size_bytes.compressed),
    )


def _earlier(report: Report, other: Earlier, own: Measurement | None) -> FrontierRow:
    found = other.report
    row = _row(
        report,
        found.recipe.name,
        "earlier",
        found.size_bytes.compressed,
        found.bits_per_weight.total,
        found.measurements,
        _comparable(own, _first(found.measurements, "perplexity")),
    )
    return replace(row, reference=other.reference)


def _is_comparable(report: Report, other: Report) -> bool:
    mine, theirs = divergence_of(report.measurements), divergence_of(other.measurements)
    if mine is None or theirs is None or report.source != other.source:
        return False
    return (mine.protocol, mine.text) == (theirs.protocol, theirs.text)


def _first(measurements: tuple[Measurement, ...], name: str) -> Measurement | None:
    return next((row for row in measurements if row.evaluator == _EVALUATORS[name]), None)


def _comparable(own: Measurement | None, other: Measurement | None) -> float | None:
    """Return a perplexity that is over the same windows as that of the artifact."""
    if own is None or other is None or (own.protocol, own.text) != (other.protocol, other.text):
        return None
    return other.compressed


def _gap(size_bytes: int, artifact_bytes: int) -> float:
    return size_bytes / artifact_bytes - 1 if artifact_bytes else 0.0
