"""Paired differences: the mean is exact, the standard error is that of a simulation."""

import math

import numpy as np
import pytest

from srr_core.evaluators.paired import paired_difference


def test_samples_of_one_size_give_the_standard_error_of_the_mean() -> None:
    after, before = [3.0, 5.0, 8.0, 4.0], [2.0, 5.0, 6.0, 1.0]
    found = paired_difference(after, before, [2, 2, 2, 2])
    per_unit = (np.array(after) - np.array(before)) / 2
    assert found.mean == pytest.approx(per_unit.mean())
    assert found.standard_error == pytest.approx(per_unit.std(ddof=1) / math.sqrt(4))


def test_a_shift_in_proportion_to_the_size_has_no_error() -> None:
    found = paired_difference([2.0, 4.0, 12.0], [1.0, 2.0, 6.0], [1, 2, 6])
    assert (found.mean, found.standard_error) == (1.0, 0.0)


def test_the_error_of_unequal_samples_is_that_of_repetition() -> None:
    generator = np.random.default_rng(0)

    def draw() -> tuple[float, float]:
        units = generator.integers(50, 500, size=60)
        noise = np.sqrt(units) * generator.normal(size=60)
        found = paired_difference((0.1 * units + noise).tolist(), [0.0] * 60, units.tolist())
        return found.mean, found.standard_error

    runs = np.array([draw() for _ in range(2000)])
    # 2000 repetitions know the spread to 1/sqrt(4000) = 1.6 %; five of these, and the bias of 60 samples, below 5 %.
    assert runs[:, 1].mean() == pytest.approx(runs[:, 0].std(), rel=0.1)


def test_one_sample_says_nothing_about_chance() -> None:
    found = paired_difference([2.0], [1.0], [4])
    assert found.mean == 0.25
    assert math.isinf(found.standard_error)
    assert not found.is_significant


@pytest.mark.parametrize(("after", "before", "units"), [([1.0], [], [1]), ([], [], [])])
def test_what_cannot_be_paired_is_refused(after: list[float], before: list[float], units: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(after, before, units)
