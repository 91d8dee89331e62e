"""Several finished jobs of one model side by side: quality against size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.jobs.schema import Job
from service.web.charts import HEIGHT, WIDTH, Tick, nice_ceiling
from srr_core.report import Report

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 16, 40
_TICKS = 4


@dataclass(frozen=True)
class Candidate:
    """One result in the comparison."""

    job: Job
    report: Report

    @property
    def bits(self) -> float:
        """Bits per compressed weight, L·R counted."""
        return self.report.bits_per_weight.total

    @property
    def perplexity(self) -> float | None:
        """The first metric of the evaluation, if there was one."""
        return self.report.evaluation[0].compressed if self.report.evaluation else None


@dataclass(frozen=True)
class Dot:
    """One result in the chart."""

    x: float
    y: float
    number: int
    label: str


@dataclass(frozen=True)
class ScatterChart:
    """Error over bits, ready to be drawn; lower and further left is better."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    bottom: float = HEIGHT - _BOTTOM
    top: float = _TOP
    width: int = WIDTH
    height: int = HEIGHT


def candidates(jobs: Sequence[Job], reports: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Return the results by size, the smallest first."""
    found = [Candidate(job, Report.model_validate(report)) for job, report in zip(jobs, reports, strict=True)]
    return sorted(found, key=lambda one: (one.bits, one.report.mean_output_error))


def scatter_chart(found: Sequence[Candidate]) -> ScatterChart | None:
    """Return the chart of mean output error against bits per weight, both from zero; None without results."""
    if not found:
        return None
    x_top = nice_ceiling(max(one.bits for one in found))
    y_top = nice_ceiling(max(one.report.mean_output_error for one in found))

    def x_of(bits: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * bits / x_top, 2)

    def y_of(error: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * error / y_top, 2)

    shares = [step / _TICKS for step in range(_TICKS + 1)]
    return ScatterChart(
        dots=tuple(
            Dot(
                x=x_of(one.bits),
                y=y_of(one.report.mean_output_error),
                number=number,
                label=f"{one.report.recipe.name}: {one.bits:.2f} bits, error {one.report.mean_output_error:.4f}",
            )
            for number, one in enumerate(found, start=1)
        ),
        x_ticks=tuple(Tick(y=x_of(x_top * share), label=f"{x_top * share:.3g}") for share in shares),
        y_ticks=tuple(Tick(y=y_of(y_top * share), label=f"{y_top * share:.3g}") for share in shares),
    )
