"""A factor S of a positive semi-definite matrix, SᵀS = R, without a square root or an inverse."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

TRIANGULAR_PANELS = 8
RIDGES = (0.0, 1e-6, 1e-5)
"""Shares of the diagonal that are added in turn until a Cholesky factor exists.

Statistics are sums of float32 products, whose rounding makes a singular one indefinite by about 1e-7 of its diagonal. A
millionth more moves the errors of a layer in their fourth digit at most, since nothing is divided by it."""


@dataclass(frozen=True)
class PSDFactor:
    """S with SᵀS = R, kept as its transpose restricted to the live rows: all that products need."""

    transposed: Float[Tensor, "live columns"]
    """The rows of Sᵀ for the live inputs; lower triangular when `is_triangular`."""
    live: Int[Tensor, " live"] | None
    """Indices of inputs with energy, or None when all have."""
    is_triangular: bool
    ridge: float = 0.0
    """The share of the diagonal that was added."""
    condition: float | None = None
    """Lower bound of the condition number of the live part, from the diagonal of its factor; None when singular."""

    def times(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out columns"]:
        """Return matrix · Sᵀ, in the dtype of the matrix. Costs half a square product when triangular."""
        inputs = matrix if self.live is None else matrix.index_select(1, self.live)
        transposed = self.transposed.to(matrix)
        return _times_lower(inputs, transposed) if self.is_triangular else inputs @ transposed


def psd_factor(gram: Float[Tensor, "n n"], *, dtype: torch.dtype = torch.float32) -> PSDFactor:
    """Return a factor of a positive semi-definite matrix.

    Inputs that never fired are left out, then a Cholesky factor is taken in float64, where needed with one of RIDGES.
    Where none is enough, the eigenfactor is used with negative eigenvalues set to 0. Costs n³/3, or about 10 n³
    for the eigenfactor, which takes minutes at the widths of language models.

    Args:
        gram: Symmetric, finite.
        dtype: Of the factor that is returned; float32 halves the cost of later products.
    Source: algorithmic note in QERA, arXiv:2410.06040, theorem 1: any S with SᵀS = R gives the same L·R.
    """
    wide = gram.to(torch.float64)
    alive = wide.diagonal() > 0
    live = None if bool(alive.all()) else torch.nonzero(alive).flatten()
    wide = wide if live is None else wide.index_select(0, live).index_select(1, live)
    for ridge in RIDGES:
        with _raised(wide, ridge):
            lower, failed = torch.linalg.cholesky_ex(wide)
        if int(failed) == 0 and bool(torch.isfinite(lower.sum())):
            condition = None if ridge else _condition(lower)
            return PSDFactor(lower.to(dtype), live, is_triangular=True, ridge=ridge, condition=condition)
        del lower
    eigenvalues, eigenvectors = torch.linalg.eigh(wide)
    return PSDFactor(eigenvectors.mul_(eigenvalues.clamp_min_(0).sqrt_()).to(dtype), live, is_triangular=False)


def _condition(lower: Float[Tensor, "n n"]) -> float | None:
    diagonal = lower.diagonal()
    return float((diagonal.max() / diagonal.min()) ** 2) if len(diagonal) else None


@contextmanager
def _raised(matrix: Float[Tensor, "n n"], ridge: float) -> Iterator[None]:
    # In place and taken back, because a copy of a wide statistic is a gigabyte.
    diagonal = matrix.diagonal()
    before = diagonal.clone()
    diagonal.mul_(1 + ridge)
    try:
        yield
    finally:
        diagonal.copy_(before)


def _times_lower(matrix: Float[Tensor, "m n"], lower: Float[Tensor, "n n"]) -> Float[Tensor, "m n"]:
    # Panel j of the product needs only the rows from j on; eight panels save 44 % of the arithmetic.
    size = lower.shape[0]
    step = -(-size // TRIANGULAR_PANELS)
    product = matrix.new_empty(matrix.shape[0], size)
    for begin in range(0, size, max(step, 1)):
        end = min(begin + step, size)
        torch.mm(matrix[:, begin:], lower[begin:, begin:end], out=product[:, begin:end])
    return product
