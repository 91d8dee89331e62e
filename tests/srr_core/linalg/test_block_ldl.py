"""The unit block triangular factor: it reproduces the matrix, and it is damped no more than needed."""

import pytest
import torch
from torch import Tensor

from srr_core.linalg.block_ldl import damped_block_ldl


def positive(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(width, 2 * width, generator=generator, dtype=torch.float64)
    return root @ root.T / width


@pytest.mark.parametrize("block", [1, 4, 8])
def test_the_factor_leaves_a_block_diagonal_matrix(block: int) -> None:
    gram = positive(32)
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(32, dtype=torch.float64)

    factor = damped_block_ldl(gram.clone(), block=block, damping=0.01)

    assert factor is not None
    lower = factor.lower.double()
    middle = torch.linalg.solve_triangular(lower, damped, upper=False, unitriangular=True)
    middle = torch.linalg.solve_triangular(lower.T, middle, upper=True, unitriangular=True, left=False)
    inside = torch.kron(torch.eye(32 // block), torch.ones(block, block)).bool()
    # The factor is rounded to float32, whose unit is 6e-8.
    assert float(middle[~inside].abs().max()) < 1e-5 * float(middle.abs().max())


@pytest.mark.parametrize("block", [1, 8])
def test_the_diagonal_blocks_are_identities(block: int) -> None:
    factor = damped_block_ldl(positive(32), block=block, damping=0.01)

    assert factor is not None
    blocks = torch.stack([factor.lower[i : i + block, i : i + block] for i in range(0, 32, block)])
    assert torch.allclose(blocks, torch.eye(block).expand_as(blocks), atol=1e-6)
    assert torch.equal(factor.lower, factor.lower.tril())


def test_a_singular_matrix_needs_no_more_than_the_first_damping() -> None:
    factor = damped_block_ldl(torch.ones(16, 16, dtype=torch.float64), block=1, damping=0.01)

    assert factor is not None
    assert factor.damping == 0.01


@pytest.mark.parametrize(("entry", "expected"), [(1.05, 0.1), (1.5, 1.0)])
def test_an_indefinite_matrix_is_damped_tenfold_until_it_has_a_factor(entry: float, expected: float) -> None:
    gram = torch.eye(16, dtype=torch.float64)
    gram[0, 1] = gram[1, 0] = entry

    factor = damped_block_ldl(gram, block=1, damping=0.01)

    assert factor is not None
    assert factor.damping == expected


def test_damping_beyond_one_is_not_tried() -> None:
    gram = torch.eye(16, dtype=torch.float64)
    gram[0, 1] = gram[1, 0] = 2.5

    assert damped_block_ldl(gram, block=1, damping=0.3) is None
