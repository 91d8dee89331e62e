"""Whether a compression was worth it, in one sentence that follows from the numbers, also where the method loses."""

from dataclasses import dataclass
from typing import Literal

from srr_core.report import BaselineReport, Report
from srr_core.telling.frontier import SAME_SIZE, divergence_of

Outcome = Literal["better", "equal", "worse", "unknown"]
STANDARD_ERRORS = 2.0
"""From no difference, below which results are not called different."""


@dataclass(frozen=True)
class Verdict:
    """What a report comes to."""

    outcome: Outcome
    """Against the baseline that is closest to the source; unknown where there is none."""
    sentence: str


@dataclass(frozen=True)
class _Rival:
    """A baseline that was measured."""

    report: BaselineReport
    divergence: float
    gap: float
    """Divergence of the artifact less its own."""
    outcome: Literal["better", "equal", "worse"]
    """Of the artifact."""

    @property
    def name(self) -> str:
        return self.report.recipe.name


def verdict(report: Report) -> Verdict:
    """Return what a report comes to, from its divergences, their paired differences, and bytes."""
    measured = divergence_of(report.measurements)
    share = _share(report)
    if measured is None:
        return Verdict(
            "unknown",
            f"No divergence was measured, so nothing says how close it is to its source; the files are {share}.",
        )
    error = "" if measured.standard_error is None else f" ± {_digits(measured.standard_error)}"
    loss = f"{report.recipe.name} diverges by {_digits(measured.compressed)}{error} {measured.unit}"
    rivals = sorted(_rivals(report), key=lambda rival: rival.divergence)
    if not rivals:
        return Verdict(
            "unknown",
            f"{loss} from the source, in files that are {share}; no other method ran beside it, so nothing "
            "says whether one would do better at this size.",
        )
    best = rivals[0]
    sentence = _judged(report, best, loss)
    others = [_aside(rival) for rival in rivals[1:]]
    return Verdict(best.outcome, " ".join([sentence, *others, f"The files are {share}."]))


def _rivals(report: Report) -> list[_Rival]:
    found = []
    for baseline in report.baselines:
        row = divergence_of(baseline.measurements)
        if row is None or baseline.divergence_gap is None:
            continue
        gap, error = baseline.divergence_gap, baseline.divergence_gap_error
        # A single window has no error; then only an exact tie is one.
        is_tie = gap == 0 or (error is not None and abs(gap) < STANDARD_ERRORS * error)
        outcome: Literal["better", "equal", "worse"] = "equal" if is_tie else "better" if gap < 0 else "worse"
        found.append(_Rival(baseline, row.compressed, gap, outcome))
    return found


def _judged(report: Report, best: _Rival, loss: str) -> str:
    size = report.size_bytes.compressed
    gap = best.report.size_bytes / size - 1 if size else 0.0
    place = ", at the same size"
    if abs(gap) > SAME_SIZE:
        words = "larger" if gap > 0 else "smaller"
        place = (
            f"; the files of {best.name} are {100 * abs(gap):.0f} % {words}, so this is no comparison at the same size"
        )
    numbers = f"{loss} from the source and {best.name} by {_digits(best.divergence)}"
    if best.outcome == "equal":
        return f"It makes no difference: {numbers}, which lies within {STANDARD_ERRORS:g} standard errors{place}."
    if best.outcome == "better":
        lead = "It was worth it" if gap >= -SAME_SIZE else "Closer to the source, and larger"
        return f"{lead}: {numbers}, {_change(best)} less{place}."
    if gap > SAME_SIZE:
        return f"Further from the source, and smaller: {numbers}{place}."
    return f"It was not worth it: {numbers} alone{place}. Take {best.name} instead."


def _aside(rival: _Rival) -> str:
    words = {"better": "does worse", "equal": "cannot be told apart from it", "worse": "does better, too"}
    return f"{rival.name} {words[rival.outcome]}, with {_digits(rival.divergence)}."


def _change(rival: _Rival) -> str:
    return f"{100 * abs(rival.gap) / rival.divergence:.0f} %" if rival.divergence else _digits(abs(rival.gap))


def _share(report: Report) -> str:
    source, compressed = report.size_bytes.source, report.size_bytes.compressed
    return f"{100 * compressed / source:.0f} % of the source's size" if source else "as large as nothing"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
