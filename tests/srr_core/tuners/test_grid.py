"""Learning rates are compared by their means over seeds, and one seed of the best is published."""

import pytest

from srr_core.errors import NumericalError
from srr_core.tuners.grid import choose, rates_of
from srr_core.tuners.report import CellReport


def cell(rate, seed, score):
    end = "finished" if score is not None else "diverged"
    return CellReport(
        learning_rate=rate,
        seed=seed,
        steps=1,
        best_step=None if score is None else 1,
        best_score=score,
        end=end,
        rows=(),
        evaluations=(),
    )


CELLS = [
    cell(0.1, 1, 0.5),
    cell(0.1, 2, 0.9),
    cell(0.2, 1, 0.6),
    cell(0.2, 2, 0.7),
    cell(0.3, 1, 0.99),
    cell(0.3, 2, None),
]


def test_rates_have_means_and_deviations_of_the_sample():
    first, second, third = rates_of(CELLS)
    assert (first.mean, first.seeds) == (pytest.approx(0.7), 2)
    assert first.deviation == pytest.approx(0.2 * 2**0.5)
    assert second.mean == pytest.approx(0.65)
    assert (third.mean, third.deviation) == (None, None)


@pytest.mark.parametrize(("is_higher_better", "expected"), [(True, (0.1, 1)), (False, (0.2, 1))])
def test_first_seed_of_the_best_mean_is_chosen(is_higher_better, expected):
    found = choose(CELLS, is_higher_better=is_higher_better)
    assert (found.learning_rate, found.seed) == expected


def test_grid_without_any_result_is_a_failure():
    with pytest.raises(NumericalError, match=r"every learning rate \(0\.3\)"):
        choose(CELLS[4:], is_higher_better=True)
