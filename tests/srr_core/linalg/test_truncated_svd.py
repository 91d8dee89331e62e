"""The sketch against the dense factorization it replaces."""

import pytest
import torch

from srr_core.linalg.truncated_svd import truncated_svd

SINGULAR_VALUES_TOLERANCE = 0.01
"""Relative error of the leading values after four power iterations on a flat spectrum (spec 5.6)."""


def _with_decay(height: int, width: int, decay: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(height, height, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    count = min(height, width)
    values = torch.arange(1, count + 1, dtype=torch.float64) ** -decay
    return (left[:, :count] * values) @ right[:, :count].mT


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("height", "width"), [(120, 90), (90, 120)])
def test_captured_energy_is_close_to_eckart_young(decay: float, height: int, width: int) -> None:
    matrix = _with_decay(height, width, decay)
    best = torch.linalg.svdvals(matrix)[:8]

    found = truncated_svd(matrix, 8, power_iterations=4)

    captured = (found.left.mT @ matrix).norm() ** 2
    assert captured >= (1 - SINGULAR_VALUES_TOLERANCE) * (best**2).sum()
    torch.testing.assert_close(found.singular_values, best, rtol=SINGULAR_VALUES_TOLERANCE, atol=0)


def test_left_vectors_are_orthonormal() -> None:
    found = truncated_svd(_with_decay(200, 150, 1.0).to(torch.float32), 12)
    torch.testing.assert_close(found.left.mT @ found.left, torch.eye(12), rtol=0, atol=1e-5)


def test_a_wide_sketch_is_the_dense_factorization() -> None:
    matrix = _with_decay(20, 30, 0.3)
    found = truncated_svd(matrix, 20)
    torch.testing.assert_close(found.singular_values, torch.linalg.svdvals(matrix))


def test_same_seed_gives_the_same_bits_and_the_input_is_kept() -> None:
    matrix = _with_decay(100, 80, 0.5)
    before = matrix.clone()

    first, second = truncated_svd(matrix, 6, seed=3), truncated_svd(matrix, 6, seed=3)

    assert torch.equal(first.left, second.left)
    assert torch.equal(matrix, before)


def test_a_warm_start_is_as_good_with_fewer_iterations() -> None:
    matrix = _with_decay(160, 120, 0.2)
    nearby = matrix + 1e-4 * torch.randn(160, 120, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start = truncated_svd(nearby, 10, power_iterations=8).left

    cold = truncated_svd(matrix, 10, power_iterations=1)
    warm = truncated_svd(matrix, 10, power_iterations=1, start=start)

    assert warm.singular_values.sum() > cold.singular_values.sum()


def test_rank_zero_is_empty() -> None:
    found = truncated_svd(torch.ones(4, 3), 0)
    assert found.left.shape == (4, 0)
    assert found.singular_values.shape == (0,)


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_outside_the_matrix_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        truncated_svd(torch.ones(5, 3), rank)


def test_no_power_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        truncated_svd(torch.ones(5, 3), 1, power_iterations=0)


def test_a_matrix_of_zeros_has_zero_singular_values() -> None:
    found = truncated_svd(torch.zeros(80, 90), 5)
    assert torch.equal(found.singular_values, torch.zeros(5))
