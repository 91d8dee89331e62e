"""Hadamard matrices of the orders that real layers need, built from number theory.

A Hadamard matrix has entries ±1 and orthogonal rows. Orders come from three constructions: Sylvester's doubling,
Paley's two from the squares modulo a prime, and four circulants in the array of Goethals and Seidel.

Source: Paley (1933); Goethals and Seidel (1970), "A skew Hadamard matrix of order 36", theorem 1.
"""

from functools import lru_cache

import torch
from jaxtyping import Float64
from torch import Tensor

_CIRCULANTS: dict[int, tuple[int, int, int, int]] = {
    13: (0xEDC, 0x1122, 0x13F2, 0x13F2),
    29: (0x653F298, 0xCD3F2CC, 0x53A1728, 0x1045E882),
    39: (0x640E96AFD8, 0x439BAE867C, 0xA2D65E24A, 0x11DC08322C),
    43: (0x22E743D18BA, 0x36761EF2A8, 0x34CF5A50CD2, 0x5E7FDDC15EC),
}
"""First rows of four circulants of an odd order whose Gram matrices add up to a multiple of the identity; bit i of a
number set means entry i is -1. Found by a search over unions of orbits of multiplier groups; they give the orders 52,
116, 156 and 172, which Paley's constructions do not reach over a prime field."""


@lru_cache(maxsize=8)
def hadamard_matrix(order: int) -> Float64[Tensor, "order order"] | None:
    """Return a Hadamard matrix with entries ±1, or None where none of the constructions gives this order.

    Every power of two is given, and every multiple of 4 up to 172 that layers of published models have needed.
    The result is cached and must not be modified.
    """
    if order & (order - 1) == 0:
        return _sylvester(order)
    if order % 4:
        return None
    if _is_prime(order - 1):
        return _paley_one(order - 1)
    if (order // 2 - 1) % 4 == 1 and _is_prime(order // 2 - 1):
        return _paley_two(order // 2 - 1)
    if order // 4 in _CIRCULANTS:
        return _goethals_seidel(order // 4)
    return None


def _sylvester(order: int) -> Float64[Tensor, "order order"]:
    matrix = torch.ones(1, 1, dtype=torch.float64)
    double = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    while len(matrix) < order:
        matrix = torch.kron(double, matrix)
    return matrix


def _paley_one(prime: int) -> Float64[Tensor, "order order"]:
    """Order prime + 1, for a prime of the form 4n + 3: I + S with S skew."""
    skew = torch.ones(prime + 1, prime + 1, dtype=torch.float64)
    skew[1:, 0] = -1.0
    skew[0, 0] = 0.0
    skew[1:, 1:] = _residues(prime)
    return skew + torch.eye(prime + 1, dtype=torch.float64)


def _paley_two(prime: int) -> Float64[Tensor, "order order"]:
    """Order 2 (prime + 1), for a prime of the form 4n + 1: a symmetric conference matrix, doubled."""
    conference = torch.ones(prime + 1, prime + 1, dtype=torch.float64)
    conference[0, 0] = 0.0
    conference[1:, 1:] = _residues(prime)
    off_diagonal = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    diagonal = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    return torch.kron(conference, off_diagonal) + torch.kron(torch.eye(prime + 1, dtype=torch.float64), diagonal)


def _goethals_seidel(order: int) -> Float64[Tensor, "n n"]:
    """Order 4 n, from four circulants A, B, C, D of order n; R is the identity turned around."""
    A, B, C, D = (_circulant(negatives, order) for negatives in _CIRCULANTS[order])
    BR, CR, DR = B.flip(1), C.flip(1), D.flip(1)
    BtR, CtR, DtR = B.T.flip(1), C.T.flip(1), D.T.flip(1)
    rows = [[A, BR, CR, DR], [-BR, A, DtR, -CtR], [-CR, -DtR, A, BtR], [-DR, CtR, -BtR, A]]
    return torch.cat([torch.cat(row, dim=1) for row in rows])


def _circulant(negatives: int, order: int) -> Float64[Tensor, "order order"]:
    first = torch.tensor([-1.0 if negatives >> index & 1 else 1.0 for index in range(order)], dtype=torch.float64)
    return torch.stack([first.roll(shift) for shift in range(order)])


def _residues(prime: int) -> Float64[Tensor, "prime prime"]:
    """Return the matrix of quadratic characters of row minus column: 1 for squares, -1 for others, 0 for 0."""
    character = torch.full((prime,), -1.0, dtype=torch.float64)
    numbers = torch.arange(prime)
    character[numbers**2 % prime] = 1.0
    character[0] = 0.0
    return character[(numbers[:, None] - numbers) % prime]


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
