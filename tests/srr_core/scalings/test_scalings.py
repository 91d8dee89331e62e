"""Every scaling against its definition, and laws over the table."""

import pytest
import torch

from srr_core.recipe import AutocorrelationSpec, DiagonalSpec, LQERSpec, Spec
from srr_core.scalings import SCALINGS
from srr_core.types import Statistics
from tests.srr_core.problems import random_problem


@pytest.fixture
def statistics() -> Statistics:
    return random_problem().statistics


@pytest.mark.parametrize("spec", [kind() for kind in SCALINGS], ids=lambda spec: spec.kind)
def test_every_scaling_keeps_the_rows_and_turns_zero_into_zero(spec: Spec, statistics: Statistics) -> None:
    factor = SCALINGS.build(spec).factor(statistics)
    matrix = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    before = matrix.clone()

    scaled = factor.times(matrix)

    assert scaled.shape[0] == 5
    assert torch.isfinite(scaled).all()
    assert factor.times(torch.zeros_like(matrix)).norm() == 0
    assert torch.equal(matrix, before)


@pytest.mark.parametrize("spec", [kind() for kind in SCALINGS], ids=lambda spec: spec.kind)
def test_every_scaling_is_linear(spec: Spec, statistics: Statistics) -> None:
    factor = SCALINGS.build(spec).factor(statistics)
    first, second = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        factor.times(first + 2 * second), factor.times(first) + 2 * factor.times(second), rtol=1e-6, atol=1e-9
    )


def test_the_diagonal_scaling_is_the_root_mean_square(statistics: Statistics) -> None:
    factor = SCALINGS.build(DiagonalSpec()).factor(statistics)
    expected = torch.diag(statistics.autocorrelation.diagonal().sqrt())
    torch.testing.assert_close(factor.times(torch.eye(64, dtype=torch.float64)), expected)


def test_lqer_floors_silent_inputs_and_centres_the_range() -> None:
    magnitude = torch.tensor([0.0, 1e-6, 1.0, 4.0], dtype=torch.float64)
    statistics = Statistics(torch.eye(4, dtype=torch.float64), magnitude, 10)
    factor = SCALINGS.build(LQERSpec()).factor(statistics)
    expected = torch.tensor([1e-4, 1e-4, 1.0, 4.0], dtype=torch.float64) / (1e-4 * 4.0) ** 0.5
    torch.testing.assert_close(factor.times(torch.eye(4, dtype=torch.float64)).diagonal(), expected)


def test_the_exact_scaling_measures_outputs(statistics: Statistics) -> None:
    factor = SCALINGS.build(AutocorrelationSpec()).factor(statistics)
    matrix = torch.randn(3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (matrix @ statistics.autocorrelation * matrix).sum().sqrt()
    torch.testing.assert_close(factor.times(matrix).norm(), expected, rtol=1e-6, atol=0)
