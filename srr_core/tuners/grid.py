"""Several trainings as one result: the learning rate whose mean over the seeds is best, with how far they scatter.

Source: the aggregation of the QERA and SRR papers, which take the best epoch of each seed on the validation set. What
is reported is therefore a little better than what new data will show.
"""

from collections.abc import Sequence
from statistics import fmean, stdev

from srr_core.errors import NumericalError
from srr_core.tuners.report import CellReport, RateReport


def rates_of(cells: Sequence[CellReport]) -> tuple[RateReport, ...]:
    """Return every learning rate over its seeds, in the order they were trained."""
    rates: dict[float, list[float | None]] = {}
    for cell in cells:
        rates.setdefault(cell.learning_rate, []).append(cell.best_score)
    return tuple(_rate(rate, scores) for rate, scores in rates.items())


def choose(cells: Sequence[CellReport], *, is_higher_better: bool) -> CellReport:
    """Return the first seed of the best learning rate: not its best seed, whose score would flatter.

    Raises:
        NumericalError: no learning rate has a result for every seed.
    """
    complete = [(rate.mean, rate.learning_rate) for rate in rates_of(cells) if rate.mean is not None]
    if not complete:
        tried = ", ".join(f"{rate.learning_rate:g}" for rate in rates_of(cells))
        raise NumericalError(f"training diverged at every learning rate ({tried}); take lower ones")
    best = (max if is_higher_better else min)(mean for mean, _ in complete)
    rate = next(rate for mean, rate in complete if mean == best)
    return next(cell for cell in cells if cell.learning_rate == rate)


def _rate(rate: float, scores: Sequence[float | None]) -> RateReport:
    found = [score for score in scores if score is not None]
    is_complete = len(found) == len(scores)
    return RateReport(
        learning_rate=rate,
        mean=fmean(found) if is_complete else None,
        deviation=stdev(found) if is_complete and len(found) > 1 else None,
        seeds=len(scores),
    )
