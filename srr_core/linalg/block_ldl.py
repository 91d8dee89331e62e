"""The unit block triangular factor behind error feedback, damped until it exists.

    H + d·mean(diag H)·I = L D Lᵀ

H is the autocorrelation of the inputs, L unit block lower triangular, D block diagonal. Rounding the inputs from
the last to the first, target_k = w_k + Σ_{j>k} e_j L_jk with e = w - q makes tr(e H eᵀ) = Σ_k of what rounding
adds at k. This is GPTQ without its inverse: the Cholesky factor of H⁻¹ carries the same numbers, but gets them by
inverting H, which loses what the damping has just saved.

Source: Chee et al., QuIP, arXiv:2307.13304, section 3 and theorem 6 (the equivalence with GPTQ).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

_DAMPING_GROWTH = 10.0
_LARGEST_DAMPING = 1.0


@dataclass(frozen=True)
class DampedFactor:
    """L in float32, and the damping it took."""

    lower: Float32[Tensor, "n n"]
    """Unit block lower triangular, zeros above."""
    damping: float


def damped_block_ldl(gram: Float64[Tensor, "n n"], *, block: int, damping: float) -> DampedFactor | None:
    """Return L for the smallest damping that works, or None if even 1.0 does not.

    The damping grows tenfold per failure. Cost: n³/3 in float64 per attempt, and two more matrices of n² float64.

    Args:
        gram: Symmetric with a positive mean diagonal; a multiple of `block` wide. Overwritten.
        block: Side of the diagonal blocks of D; 1 gives the ordinary LDL factor.
        damping: First value to try, relative to the mean of the diagonal.
    """
    mean = float(gram.diagonal().mean())
    applied = 0.0
    while True:
        gram.diagonal().add_((damping - applied) * mean)
        applied = damping
        lower, failed = torch.linalg.cholesky_ex(gram)
        if int(failed) == 0 and bool(torch.isfinite(lower.diagonal()).all()):
            return DampedFactor(_unit_blocks(lower, block), damping)
        if damping >= _LARGEST_DAMPING:
            return None
        damping = min(damping * _DAMPING_GROWTH, _LARGEST_DAMPING)


def _unit_blocks(lower: Float64[Tensor, "n n"], block: int) -> Float32[Tensor, "n n"]:
    """Return the factor with each block column divided by its diagonal block, in float32."""
    if block == 1:
        return (lower / lower.diagonal()).to(torch.float32)
    unit = torch.zeros(lower.shape, dtype=torch.float32, device=lower.device)
    for start in range(0, lower.shape[0], block):
        columns = lower[start:, start : start + block]
        unit[start:, start : start + block] = torch.linalg.solve_triangular(
            columns[:block], columns, upper=False, left=False
        )
    return unit
