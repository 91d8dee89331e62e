"""A factor of R is as good as R itself, singular or not."""

import pytest
import torch

from srr_core.linalg.psd_factor import RIDGES, psd_factor


def _gram(size: int, tokens: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, size, generator=generator, dtype=torch.float64)
    return inputs.mT @ inputs / tokens


def _norms_agree(gram: torch.Tensor, *, ridge: float = 0.0) -> None:
    matrix = torch.randn(7, gram.shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = psd_factor(gram, dtype=torch.float64)
    raised = gram + ridge * torch.diag(gram.diagonal())
    expected = (matrix @ raised * matrix).sum()
    assert factor.ridge == ridge
    torch.testing.assert_close(factor.times(matrix).norm() ** 2, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("size", [1, 3, 8, 41])
def test_norms_through_the_factor_equal_norms_through_the_matrix(size: int) -> None:
    _norms_agree(_gram(size, 200))


def test_a_singular_matrix_gets_the_least_ridge() -> None:
    _norms_agree(_gram(30, 10), ridge=RIDGES[1])


def test_a_matrix_made_indefinite_by_rounding_gets_the_least_ridge_that_helps() -> None:
    singular = _gram(30, 10)
    _norms_agree(singular - 3e-6 * torch.diag(singular.diagonal()), ridge=RIDGES[2])


def test_the_matrix_is_as_it_was() -> None:
    gram = _gram(30, 10)
    before = gram.clone()
    psd_factor(gram)
    assert torch.equal(gram, before)


def test_the_condition_is_bounded_from_below_and_unknown_where_singular() -> None:
    gram = _gram(20, 100) + torch.diag(torch.logspace(0, 6, 20, dtype=torch.float64))
    found = psd_factor(gram).condition
    assert found is not None
    assert 1e5 < found <= float(torch.linalg.cond(gram))
    assert psd_factor(_gram(30, 10)).condition is None


def test_inputs_that_never_fired_are_left_out() -> None:
    gram = _gram(12, 100)
    gram[[2, 5]] = 0
    gram[:, [2, 5]] = 0

    factor = psd_factor(gram)

    assert factor.live is not None
    assert factor.live.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    _norms_agree(gram)


def test_an_indefinite_matrix_uses_its_eigenfactor_without_what_is_negative() -> None:
    vectors = torch.linalg.qr(_gram(16, 50)).Q
    values = torch.linspace(-0.1, 2, 16, dtype=torch.float64)
    factor = psd_factor(vectors * values @ vectors.mT, dtype=torch.float64)
    assert not factor.is_triangular
    torch.testing.assert_close(factor.transposed @ factor.transposed.mT, vectors * values.clamp(min=0) @ vectors.mT)


def test_a_matrix_of_zeros_makes_every_norm_zero() -> None:
    factor = psd_factor(torch.zeros(4, 4, dtype=torch.float64))
    assert factor.times(torch.ones(2, 4)).norm() == 0
