"""Hadamard matrices have orthogonal rows of ±1 at every order; the transform is orthonormal at every length."""

import math

import pytest
import torch

from srr_core.linalg.hadamard import hadamard_transform, kronecker_factors
from srr_core.linalg.hadamard_matrices import hadamard_matrix

NAMED_ORDERS = [1, 12, 20, 28, 36, 52, 60, 108, 116, 124, 140, 156, 172]
"""The odd parts of published layers, times 4: those QuIP# ships tables for."""
LAYER_LENGTHS = [256, 704, 768, 896, 1536, 2304, 3584, 4864, 5632, 8960, 11008, 13824, 14336, 18944, 25600]
OTHER_LENGTHS = [1, 2, 3, 7, 33, 40, 50, 97, 428]


@pytest.mark.parametrize("order", [*NAMED_ORDERS, 2, 4, 8, 44, 64, 68, 76, 84, 148, 200])
def test_a_hadamard_matrix_has_orthogonal_rows_of_plus_and_minus_one(order: int) -> None:
    matrix = hadamard_matrix(order)

    assert matrix is not None
    assert torch.equal(matrix.abs(), torch.ones(order, order, dtype=torch.float64))
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("order", [3, 6, 10, 15, 34])
def test_an_order_that_cannot_exist_gives_none(order: int) -> None:
    assert hadamard_matrix(order) is None


@pytest.mark.parametrize("length", [*LAYER_LENGTHS, *OTHER_LENGTHS])
def test_the_factors_multiply_to_the_length_and_are_orthonormal(length: int) -> None:
    factors = kronecker_factors(length)

    assert math.prod(len(factor) for factor in factors) == length
    worst = [float((factor @ factor.T - torch.eye(len(factor))).abs().max()) for factor in factors]
    # Products of at most a few hundred float64 terms.
    assert max(worst, default=0.0) < 1e-13


@pytest.mark.parametrize("order", NAMED_ORDERS)
@pytest.mark.parametrize("power", [0, 1, 7])
def test_every_named_length_is_transformed_by_equal_magnitudes(order: int, power: int) -> None:
    length = order * 2**power
    largest = math.prod(float(factor.abs().max()) for factor in kronecker_factors(length))

    assert largest == pytest.approx(length**-0.5, rel=1e-12)


@pytest.mark.parametrize("length", OTHER_LENGTHS)
def test_lengths_without_a_hadamard_matrix_stay_within_the_root_of_two(length: int) -> None:
    largest = math.prod(float(factor.abs().max()) for factor in kronecker_factors(length))

    assert largest <= math.sqrt(2 / length) * (1 + 1e-12)


@pytest.mark.parametrize("length", [*LAYER_LENGTHS, *OTHER_LENGTHS])
def test_the_inverse_returns_the_vectors_and_lengths_are_kept(length: int) -> None:
    vectors = torch.randn(3, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    transformed = hadamard_transform(vectors)

    assert torch.allclose(hadamard_transform(transformed, inverse=True), vectors, rtol=0, atol=1e-12)
    assert torch.allclose(transformed.norm(dim=1), vectors.norm(dim=1), rtol=1e-12)


@pytest.mark.parametrize("length", [64, 40, 96, 104, 33])
def test_the_fast_transform_is_the_product_of_its_factors(length: int) -> None:
    dense = torch.ones(1, 1, dtype=torch.float64)
    for factor in kronecker_factors(length):
        dense = torch.kron(dense, factor)
    vectors = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    assert torch.allclose(hadamard_transform(vectors), vectors @ dense.T, rtol=0, atol=1e-13)


def test_an_outlier_is_spread_over_all_coordinates() -> None:
    outlier = torch.zeros(1, 4096)
    outlier[0, 17] = 1.0

    assert torch.allclose(hadamard_transform(outlier).abs(), torch.full((1, 4096), 1 / 64))


def test_float32_is_kept() -> None:
    assert hadamard_transform(torch.ones(2, 12)).dtype == torch.float32
