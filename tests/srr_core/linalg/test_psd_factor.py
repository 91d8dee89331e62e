"""A factor of R is as good as R itself, singular or not."""

import pytest
import torch

from srr_core.linalg.psd_factor import psd_factor


def _gram(size: int, tokens: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, size, generator=generator, dtype=torch.float64)
    return inputs.mT @ inputs / tokens


def _norms_agree(gram: torch.Tensor) -> None:
    matrix = torch.randn(7, gram.shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = psd_factor(gram, dtype=torch.float64)
    expected = (matrix @ gram * matrix).sum()
    torch.testing.assert_close(factor.times(matrix).norm() ** 2, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("size", [1, 3, 8, 41])
def test_norms_through_the_factor_equal_norms_through_the_matrix(size: int) -> None:
    _norms_agree(_gram(size, 200))


def test_a_singular_matrix_has_a_factor() -> None:
    _norms_agree(_gram(30, 10))


def test_inputs_that_never_fired_are_left_out() -> None:
    gram = _gram(12, 100)
    gram[[2, 5]] = 0
    gram[:, [2, 5]] = 0

    factor = psd_factor(gram)

    assert factor.live is not None
    assert factor.live.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    _norms_agree(gram)


def test_a_matrix_made_indefinite_by_rounding_uses_its_eigenfactor() -> None:
    gram = _gram(16, 8)
    gram -= 1e-9 * torch.eye(16, dtype=torch.float64)
    factor = psd_factor(gram, dtype=torch.float64)
    assert not factor.is_triangular
    assert torch.isfinite(factor.transposed).all()


def test_a_matrix_of_zeros_makes_every_norm_zero() -> None:
    factor = psd_factor(torch.zeros(4, 4, dtype=torch.float64))
    assert factor.times(torch.ones(2, 4)).norm() == 0
