"""Several finished jobs of one model side by side: quality against size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from service.jobs.reports import compression_report
from service.jobs.schema import Job
from service.platform.errors import UnreadableError
from service.web.charts import NARROW, WIDE, Axes, Tick, nice_ticks
from srr_core.recipe import Direction
from srr_core.recipe.byte_sizes import size_unit, size_words
from srr_core.report import BitsPerWeight, Measurement, Report, SizeBytes
from srr_core.telling.frontier import gap_words
from srr_core.telling.sizes import bits_of_model, bits_words

_log = structlog.get_logger(__name__)
Measure = Literal["bits", "size"]
ERROR = "error"
"""The name of the error of the layers in an address."""
MEASURES: Mapping[Measure, str] = {"bits": "bits per weight", "size": "size of the files"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 14, 34


@dataclass(frozen=True)
class Candidate:
    """One result in the comparison."""

    job: Job
    report: Report
    is_chosen: bool = True
    number: int | None = None
    """How the chart names it; None for a result that is not in it."""
    baseline: str = ""
    """Of a method that ran beside a job, its name; then the report is what is known of it, without layers."""

    @property
    def reference(self) -> str:
        """What an address calls it."""
        return f"{self.job.id}:{self.baseline}" if self.baseline else self.job.id

    @property
    def bits(self) -> float:
        """Bits per compressed weight, L·R counted."""
        return self.report.bits_per_weight.total

    def measured(self, metric: str) -> Measurement | None:
        """Return the measurement of a metric, if the report has it."""
        return next((row for row in self.report.measurements if row.metric == metric), None)

    @property
    def bits_of_model(self) -> float | None:
        """Bits per weight over the whole model."""
        return bits_of_model(self.report)

    @property
    def size_bytes(self) -> int:
        """Bytes of the weight files."""
        return self.report.size_bytes.compressed


@dataclass(frozen=True)
class Quality:
    """What the vertical axis shows: a number of each result, and that of the source where it has one."""

    name: str
    metric: str | None
    """None for the error of the layers, which every report has."""
    values: tuple[float | None, ...]
    """None for a result without it, or with one measured in another way."""
    source: float | None
    digits: int
    direction: Direction = "lower"
    protocol: str = ""

    @property
    def missing(self) -> int:
        """How many results are in the table and not in the chart."""
        return sum(value is None for value in self.values)


@dataclass(frozen=True)
class Dot:
    """One result in the chart."""

    x: float
    y: float
    number: int
    label: str


@dataclass(frozen=True, kw_only=True)
class ScatterChart(Axes):
    """Quality over size, ready to be drawn; lower and further left is better."""

    dots: tuple[Dot, ...]
    source_y: float | None
    """Where the source lies, where it has the same number."""


def candidates(
    jobs: Sequence[Job], reports: Sequence[Mapping[str, Any]], *, chosen: Sequence[str] = ()
) -> list[Candidate]:
    """Return the results by size, the smallest first, numbered as far as they are chosen; without a choice, jobs are.

    Args:
        chosen: References of jobs and of the baselines in their reports.
    """
    found = []
    for job, stored in zip(jobs, reports, strict=True):
        try:
            report = compression_report(job, stored)
        except UnreadableError as error:
            _log.error("row_unreadable", what="report", id=job.id, reason=str(error))
            continue
        mine = [Candidate(job, report), *_baselines(job, report)]
        found += [replace(one, is_chosen=one.reference in chosen if chosen else not one.baseline) for one in mine]
    found.sort(key=lambda one: (not one.is_chosen, one.bits, one.report.mean_output_error))
    return [replace(one, number=number if one.is_chosen else None) for number, one in enumerate(found, start=1)]


def size_gaps(found: Sequence[Candidate], base: Candidate | None) -> dict[str, str]:
    """Return by reference how much larger or smaller files are than those of another result."""
    if base is None or not base.size_bytes:
        return {}
    other = f"{base.number}" if base.number is not None else base.report.recipe.name
    return {one.reference: gap_words(one.size_bytes / base.size_bytes - 1, other) for one in found if one is not base}


def _baselines(job: Job, report: Report) -> list[Candidate]:
    found = []
    for one in report.baselines:
        bits = BitsPerWeight(
            quantized=one.bits_per_weight, low_rank=0.0, total=one.bits_per_weight, stored=one.bits_per_weight
        )
        known = {
            "recipe": one.recipe,
            "bits_per_weight": bits,
            "size_bytes": SizeBytes(source=report.size_bytes.source, compressed=one.size_bytes),
            "mean_output_error": one.mean_output_error,
            "measurements": one.measurements,
            "layers": (),
            "baselines": (),
        }
        found.append(Candidate(job, report.model_copy(update=known), baseline=one.recipe.name))
    return found


def qualities(found: Sequence[Candidate]) -> dict[str, str]:
    """Return what results can be compared by: the name of every metric that any of them has, and its words."""
    rows = {row.metric: row.title for one in found for row in one.report.measurements}
    return rows | {ERROR: "Mean output error"}


def quality(found: Sequence[Candidate], wanted: str = "") -> Quality:
    """Return what the vertical axis shows.

    Args:
        wanted: A metric, or `error`; results that have it by another protocol or on another text than the first one
            that has it are left out of it. Without it or with an unknown one, the first metric that all results have
            by one protocol on one text, and the error of the layers otherwise.
    """
    if wanted != ERROR:
        metrics = [wanted] if wanted in qualities(found) else []
        for first in [row for one in found for row in one.report.measurements if row.metric in metrics][:1]:
            return _by_metric(found, first)
        for first in found[0].report.measurements if found else ():
            shown = _by_metric(found, first)
            if not shown.missing:
                return shown
    errors = tuple(one.report.mean_output_error for one in found)
    return Quality("Mean output error", metric=None, values=errors, source=None, digits=4)


def _by_metric(found: Sequence[Candidate], first: Measurement) -> Quality:
    rows = [one.measured(first.metric) for one in found]
    values = tuple(row.compressed if row is not None and _way(row) == _way(first) else None for row in rows)
    digits = 3 if max(value for value in values if value is not None) >= 1 else 4
    return Quality(first.title, first.metric, values, first.source, digits, first.direction, first.protocol)


def _way(row: Measurement) -> tuple[object, str]:
    return row.text and row.text.token_sha256, row.protocol


def scatter_chart(
    found: Sequence[Candidate], shown: Quality, *, measure: Measure = "bits", extent: tuple[int, int] = WIDE
) -> ScatterChart | None:
    """Return the chart of a quality against size; None without results.

    Neither axis begins at zero: what matters is which result is better, and by how much on the scale of the others.
    """
    shown_here = [(one, value) for one, value in zip(found, shown.values, strict=True) if value is not None]
    if not shown_here:
        return None
    width, height = extent
    name, unit = ("", 1) if measure == "bits" else size_unit(max(one.size_bytes for one, _ in shown_here))
    sizes = [one.bits if measure == "bits" else one.size_bytes / unit for one, _ in shown_here]
    x_values = nice_ticks(min(sizes), max(sizes), count=4 if width > NARROW[0] else 3)
    levels = [*(value for _, value in shown_here), *([] if shown.source is None else [shown.source])]
    y_values = nice_ticks(min(levels), max(levels))

    def x_of(value: float) -> float:
        share = (value - x_values[0]) / (x_values[-1] - x_values[0])
        return round(_LEFT + (width - _LEFT - _RIGHT) * share, 2)

    def y_of(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(height - _BOTTOM - (height - _TOP - _BOTTOM) * share, 2)

    return ScatterChart(
        dots=tuple(
            Dot(
                x=x_of(place),
                y=y_of(value),
                number=one.number or 0,
                label=f"{one.report.recipe.name}: {bits_words(one.bits, one.bits_of_model)}, "
                f"{size_words(one.size_bytes)}, {shown.name.lower()} {value:.{shown.digits}f}",
            )
            for (one, value), place in zip(shown_here, sizes, strict=True)
        ),
        x_ticks=tuple(Tick(y=x_of(value), label=f"{label} {name}".rstrip()) for value, label in _labelled(x_values)),
        y_ticks=tuple(Tick(y=y_of(value), label=label) for value, label in _labelled(y_values)),
        source_y=None if shown.source is None else y_of(shown.source),
        width=width,
        height=height,
        left=_LEFT,
        right=width - _RIGHT,
        top=_TOP,
        bottom=height - _BOTTOM,
    )


def _labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    decimals = max(len(f"{value:.6g}".partition(".")[2]) for value in values)
    return [(value, f"{value:.{decimals}f}") for value in values]
