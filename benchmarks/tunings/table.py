"""What the cells say together: a row for each start, its rates beside each other, and how far the seeds scatter."""

from collections.abc import Sequence
from statistics import fmean, stdev

from benchmarks.tunings.cells import CellResult, by_start

HEADER = (
    "| start | bits in Q | rank | seeds | before | best, by rate (mean ± deviation) | best rate | best | "
    "at a quarter, by rate | at a quarter, its best rate | drift |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def table(cells: Sequence[CellResult]) -> list[str]:
    """Return the lines of a table in Markdown; a rate that diverged for a seed has no mean."""
    return [*HEADER, *(_row(*key, found) for key, found in by_start(cells))]


def _row(bits: float, rank: int, start: str, cells: Sequence[CellResult]) -> str:
    rates = sorted({cell.learning_rate for cell in cells})
    best = {rate: [cell.best for cell in cells if cell.learning_rate == rate] for rate in rates}
    early = {rate: [cell.quarter for cell in cells if cell.learning_rate == rate] for rate in rates}
    chosen, early_chosen = (_best_rate(scores, cells[0].is_higher_better) for scores in (best, early))
    before = [cell.scores[0] for cell in cells if 0 in cell.scores]
    drifts = [cell.drift for cell in cells if cell.learning_rate == chosen and cell.drift is not None]
    return " | ".join(
        (
            f"| {start}",
            "16" if start == "lora" else f"{bits:.2f}",
            str(rank),
            str(len({cell.seed for cell in cells})),
            f"{fmean(before):.4f}" if before else "–",
            ", ".join(f"{rate:g}: {_mean(scores)}" for rate, scores in best.items()),
            "–" if chosen is None else f"{chosen:g}",
            "–" if chosen is None else _mean(best[chosen]),
            ", ".join(f"{rate:g}: {_mean(scores)}" for rate, scores in early.items()),
            "–" if early_chosen is None else f"{_mean(early[early_chosen])} ({early_chosen:g})",
            f"{fmean(drifts):.4f} |" if drifts else "– |",
        )
    )


def _best_rate(scores: dict[float, list[float | None]], is_higher_better: bool) -> float | None:
    means = {rate: fmean(found) for rate, some in scores.items() if len(found := _known(some)) == len(some)}
    return (max if is_higher_better else min)(means, key=means.__getitem__) if means else None


def _mean(scores: Sequence[float | None]) -> str:
    found = _known(scores)
    if len(found) < len(scores) or not found:
        return "none"
    return f"{fmean(found):.4f}" + (f" ± {stdev(found):.4f}" if len(found) > 1 else "")


def _known(scores: Sequence[float | None]) -> list[float]:
    return [score for score in scores if score is not None]
