"""A fast orthonormal transform whose entries are all of about the same size, for any length.

A length 2^p·m with m odd is transformed by the Kronecker product of small matrices: Sylvester's, up to 64 wide,
and for m > 1 one Hadamard matrix of order m·2^j, the smallest that is known. Lengths without one (m·2^j for no
j <= p) take the discrete Hartley matrix of order m instead: orthonormal and symmetric as well, its largest entry
is √2 times that of a Hadamard matrix, and it is the same on every machine.

Source: the uses in QuIP#, arXiv:2402.04396, section 3. Deviation: Hartley, where the paper takes a Fourier transform.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from srr_core.linalg.hadamard_matrices import hadamard_matrix
from srr_core.linalg.precision import exact_matmul

_LARGEST_SYLVESTER = 6
"""Bits of the length per matrix product: 64 products a number at matrix speed beat six passes of butterflies."""


def hadamard_transform(vectors: Float[Tensor, "... n"], *, inverse: bool = False) -> Float[Tensor, "... n"]:
    """Return the transform of each vector, or what it is the transform of; lengths are kept.

    Costs about n · (64 · log64 n + m·2^j) multiplications a vector. The dtype is kept, so float16 would round.
    """
    shape = vectors.shape
    values = vectors
    stride = shape[-1]
    with exact_matmul():
        for matrix in kronecker_factors(shape[-1]):
            factor = (matrix.T if inverse else matrix).to(vectors)
            stride //= len(factor)
            if stride == 1:
                values = values.reshape(-1, len(factor)) @ factor.T
            else:
                values = factor @ values.reshape(-1, len(factor), stride)
    return values.reshape(shape)


@lru_cache(maxsize=32)
def kronecker_factors(length: int) -> tuple[Float64[Tensor, "side side"], ...]:
    """Return orthonormal matrices whose Kronecker product is the transform of this length.

    The result is cached and must not be modified.
    """
    odd, power = length, 0
    while odd % 2 == 0:
        odd, power = odd // 2, power + 1
    last, used = _odd_factor(odd, power)
    bits = power - used
    stages = max(1, -(-bits // _LARGEST_SYLVESTER))
    widths = [bits // stages + (index < bits % stages) for index in range(stages)]
    sylvester = [_orthonormal(2**width) for width in widths if width]
    factors = [factor for factor in (*sylvester, last) if factor is not None and len(factor) > 1]
    return tuple(factors)


def _odd_factor(odd: int, power: int) -> tuple[Float64[Tensor, "side side"] | None, int]:
    """Return the factor that takes care of the odd part, and how many factors of two it uses up."""
    if odd == 1:
        return None, 0
    for used in range(2, power + 1):
        factor = _orthonormal(odd * 2**used)
        if factor is not None:
            return factor, used
    return _hartley(odd), 0


def _orthonormal(order: int) -> Float64[Tensor, "order order"] | None:
    matrix = hadamard_matrix(order)
    return None if matrix is None else matrix / math.sqrt(order)


def _hartley(order: int) -> Float64[Tensor, "order order"]:
    index = torch.arange(order)
    angle = (index[:, None] * index % order).to(torch.float64) * (2 * math.pi / order)
    return (angle.cos() + angle.sin()) / math.sqrt(order)
