"""The leading singular triplets of a matrix by randomized subspace iteration."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.linalg.precision import exact_matmul

MIN_OVERSAMPLING = 16


@dataclass(frozen=True)
class SVDFactors:
    """A ≈ left · diag(singular_values) · rightᵀ is never formed: the callers need only these two."""

    left: Float[Tensor, "m rank"]
    """Orthonormal columns."""
    singular_values: Float[Tensor, " rank"]
    """Descending, non-negative."""


def truncated_svd(
    matrix: Float[Tensor, "m n"],
    rank: int,
    *,
    seed: int = 0,
    oversampling: float = 2.0,
    power_iterations: int = 2,
    start: Float[Tensor, "m width"] | None = None,
) -> SVDFactors:
    """Return the leading left singular vectors and singular values of a matrix.

    Randomized range finder with `power_iterations` rounds of subspace iteration, a QR after every product. The
    triplets are those of the matrix on the last right basis, which costs no product of its own. Where the sketch
    would be as wide as the matrix, a dense SVD is taken instead. The same seed, device, dtype and number of
    threads give the same bits.

    Args:
        matrix: Finite; computed in its own dtype, so pass float32 or wider. Not modified.
        rank: Number of triplets, 0 <= rank <= min(m, n).
        oversampling: Columns of the sketch as a multiple of the rank; at least rank + 16 are used.
        power_iterations: At least 1.
        start: Columns near the wanted left vectors, for instance of an earlier, similar matrix. They replace
            as many random columns; where they are at least half of the rank, one power iteration of several is saved.
    Raises:
        ValueError: rank or power_iterations is out of range.
    Source: Halko, Martinsson, Tropp (2011), Alg. 4.4 and 5.1, arXiv:0909.4061.
    """
    height, width = matrix.shape
    if not 0 <= rank <= min(height, width):
        raise ValueError(f"rank {rank} is outside 0..{min(height, width)} for a {height}x{width} matrix")
    if power_iterations < 1:
        raise ValueError(f"power_iterations is {power_iterations}; it must be at least 1")
    if rank == 0:
        return SVDFactors(matrix.new_zeros(height, 0), matrix.new_zeros(0))
    sketch = max(int(oversampling * rank), rank + MIN_OVERSAMPLING)
    is_warm = start is not None and 2 * start.shape[1] >= rank
    with exact_matmul():
        if sketch >= min(height, width):
            left, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
            return SVDFactors(left[:, :rank].contiguous(), singular_values[:rank].contiguous())
        right = _start_columns(matrix, sketch, seed, start)
        for _ in range(max(power_iterations - is_warm, 1)):
            right = _orthonormal(matrix.mT @ _orthonormal(matrix @ right))
        basis, triangular = torch.linalg.qr(matrix @ right)
        rotation, singular_values, _ = torch.linalg.svd(triangular)
        return SVDFactors((basis @ rotation[:, :rank]).contiguous(), singular_values[:rank].contiguous())


def _start_columns(
    matrix: Float[Tensor, "m n"], sketch: int, seed: int, start: Float[Tensor, "m width"] | None
) -> Float[Tensor, "n sketch"]:
    known = matrix.new_zeros(matrix.shape[1], 0) if start is None else matrix.mT @ start[:, :sketch].to(matrix)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    random = torch.randn(matrix.shape[1], sketch - known.shape[1], generator=generator, dtype=torch.float32)
    # A warm column is as long as a singular value and a random one as sqrt(n): QR would lose the smaller ones.
    lengths = known.norm(dim=0, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
    return torch.cat([known / lengths, random.to(matrix) / matrix.shape[1] ** 0.5], dim=1)


def _orthonormal(columns: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis
