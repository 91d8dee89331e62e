"""E8P: 65,536 points of two shifted copies of the E8 lattice, two bits a weight, and the nearest of them.

A point is ±a ± ¼. The pattern a has entries ½, 3/2 or 5/2; seven signs are free and the eighth makes the sum of
the signed pattern even; the last bit is the sign of the shift. 227 patterns have a squared norm of at most 10, all
there are; 29 of the 56 with five entries 3/2 (squared norm 12) fill up the 256.

The nearest point is found without trying 256 patterns. All permutations of the 227 are in the codebook, so the
best of each of their seven shapes puts its largest entries where the vector is largest, and only its score is
needed; the 29 are tried where they could win. Vectors are columns: an operation then runs over thousands of them.

Source: Tseng et al., QuIP#, arXiv:2402.04396, section 4. Written from the mathematics: the choice of the 29 and the
bits of a code are ours, so codes are not those of the authors' checkpoints.
"""

from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int8, Int32, Int64
from torch import Tensor

WIDTH = 8
NUM_POINTS = 1 << 16

_SHIFT = 0.25
_NUM_SPECIAL = 29
_SHAPES = ((), (1.5,) * 2, (1.5,) * 4, (2.5,), (1.5,), (1.5,) * 3, (2.5, 1.5))
"""Entries above ½, largest first, of the seven shapes; the first four have an even sum."""
_NUM_EVEN = 4
_SPECIAL_SHAPE = (1.5,) * 5
_SORTING_NETWORK = (
    *((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (1, 2), (5, 6)),
    *((0, 4), (3, 7), (1, 5), (2, 6), (1, 4), (3, 6), (2, 4), (3, 5), (3, 4)),
)
"""Batcher's 19 exchanges for eight values: five times faster than `torch.sort` on columns of eight."""


class _Tables(NamedTuple):
    shapes: Float32[Tensor, "shapes 8"]
    """Entries of the seven shapes, largest first, and of the special patterns' own."""
    half_norms: Float32[Tensor, "shapes 1"]
    """Half the squared norm of each."""
    specials: Float32[Tensor, "29 8"]
    index_of_key: Int32[Tensor, " keys"]
    """Pattern index by its entries read as a number in base 3; -1 where there is no such pattern."""
    powers_of_two: Float32[Tensor, "7"]
    powers_of_three: Float32[Tensor, "8"]
    rows: Int32[Tensor, "8 1"]
    points: Float32[Tensor, "points 8"]


def nearest(vectors: Float32[Tensor, "8 count"]) -> tuple[Int32[Tensor, " count"], Float32[Tensor, "8 count"]]:
    """Return the code of the nearest point of each column, and the point."""
    tables = _tables(vectors.device)
    shifted = torch.cat([vectors - _SHIFT, vectors + _SHIFT], dim=1)
    score, choice = _best_patterns(shifted, tables)
    # ‖v - p‖² = ‖v‖² - 2 score, and ‖v ∓ s‖² differ by 4 s Σv: what is left of the distance is the larger sum.
    count = vectors.shape[1]
    is_above = score[:count] - score[count:] >= (-2 * _SHIFT) * vectors.sum(0)
    shifted = torch.where(is_above, shifted[:, :count], shifted[:, count:])
    choice = torch.where(is_above, choice[:count], choice[count:])
    pattern = _patterns(shifted, choice, tables)
    negative = _signs(shifted, pattern)
    values = torch.where(negative, -pattern, pattern).add_(torch.where(is_above, _SHIFT, -_SHIFT))
    return _codes(pattern, negative, is_above, tables), values


def decode(codes: Int32[Tensor, "*shape"]) -> Float32[Tensor, "*shape 8"]:
    """Return the points of codes 0 .. 65535."""
    return _tables(codes.device).points[codes]


def _best_patterns(
    vectors: Float32[Tensor, "8 count"], tables: _Tables
) -> tuple[Float32[Tensor, " count"], Int64[Tensor, " count"]]:
    """Return the score of the best pattern of each column, vector · pattern - ‖pattern‖² / 2, and which it is.

    0 .. 6 is a shape, from 7 on a special pattern.
    """
    magnitudes = vectors.abs()
    largest = torch.stack(_descending(magnitudes))
    odd = is_odd(vectors < 0)
    scores = torch.addmm(-tables.half_norms, tables.shapes, largest)
    # A wrong parity costs the sign of the smallest magnitude, where every shape but the special has ½.
    odd_cost = largest[-1].masked_fill(odd, 0.0)
    scores[:_NUM_EVEN] -= largest[-1] - odd_cost
    scores[_NUM_EVEN:-1] -= odd_cost
    score, choice = scores[:-1].max(0)
    # No special pattern does better than one with its five 3/2 at the five largest magnitudes.
    may_win = torch.nonzero(scores[-1] > score)[:, 0]
    special_score, special = _best_special(magnitudes[:, may_win], odd[may_win], tables)
    wins = special_score > score[may_win]
    winners = may_win[wins]
    score[winners] = special_score[wins]
    choice[winners] = special[wins] + len(_SHAPES)
    return score, choice


def _best_special(
    magnitudes: Float32[Tensor, "8 count"], odd: Bool[Tensor, " count"], tables: _Tables
) -> tuple[Float32[Tensor, " count"], Int64[Tensor, " count"]]:
    # Five entries 3/2 make an odd sum. Where the signs do not, the cheapest flip is among the three entries ½, or at
    # the smallest magnitude of all for three times its price.
    is_one_and_a_half = (tables.specials > 1.0)[..., None]
    smallest_half = magnitudes.masked_fill(is_one_and_a_half, torch.inf).amin(1)
    flip = torch.minimum(smallest_half, 3.0 * magnitudes.amin(0)).masked_fill_(odd, 0.0)
    scores = torch.addmm(-tables.half_norms[-1:], tables.specials, magnitudes).sub_(flip)
    score, special = scores.max(0)
    return score, special


def _patterns(
    vectors: Float32[Tensor, "8 count"], choice: Int64[Tensor, " count"], tables: _Tables
) -> Float32[Tensor, "8 count"]:
    """Return the entries of the chosen pattern of each column."""
    patterns = tables.shapes.take(choice.clamp(max=len(_SHAPES)) * WIDTH + _ranks(vectors, tables))
    is_special = torch.nonzero(choice >= len(_SHAPES))[:, 0]
    patterns[:, is_special] = tables.specials[choice[is_special] - len(_SHAPES)].T
    return patterns


def _ranks(vectors: Float32[Tensor, "8 count"], tables: _Tables) -> Int8[Tensor, "8 count"]:
    """Return how many magnitudes of its column each one is smaller than: a permutation of 0 .. 7."""
    # Three times faster than sorting. Floats of one sign compare like their bits, and the last three bits make way
    # for the row, so that equal magnitudes get different ranks.
    keys = vectors.abs().view(torch.int32).bitwise_and_(-WIDTH).bitwise_or_(tables.rows)
    return (keys[None] > keys[:, None]).sum(1, dtype=torch.int8)


def _signs(vectors: Float32[Tensor, "8 count"], patterns: Float32[Tensor, "8 count"]) -> Bool[Tensor, "8 count"]:
    """Return which entries are negative: those of the vector, one flipped where their parity is not the pattern's."""
    negative = vectors < 0
    is_wrong = is_odd(negative) ^ is_odd(patterns == 1.5)
    # `min` finds the place five times faster than `argmin`.
    cheapest = (vectors.abs() * patterns).min(0, keepdim=True).indices
    flip = torch.zeros_like(negative).scatter_(0, cheapest, is_wrong[None])
    return negative ^ flip


def _codes(
    patterns: Float32[Tensor, "8 count"],
    negative: Bool[Tensor, "8 count"],
    is_above: Bool[Tensor, " count"],
    tables: _Tables,
) -> Int32[Tensor, " count"]:
    """Return pattern index, seven signs and the shift as one number of 8 + 7 + 1 bits."""
    index = tables.index_of_key[(tables.powers_of_three @ (patterns - 0.5)).to(torch.int32)]
    signs = (tables.powers_of_two @ negative[:-1].to(torch.float32)).to(torch.int32)
    return (index << 8).add_(signs << 1).add_(is_above)


def _descending(rows: Float32[Tensor, "8 count"]) -> list[Float32[Tensor, " count"]]:
    values = list(rows.unbind(0))
    for high, low in _SORTING_NETWORK:
        pair = values[high], values[low]
        values[high], values[low] = torch.maximum(*pair), torch.minimum(*pair)
    return values


def is_odd(flags: Bool[Tensor, "rows count"]) -> Bool[Tensor, " count"]:
    """Return whether an odd number of flags is set in each column."""
    return flags.sum(0, dtype=torch.uint8).bitwise_and_(1).to(torch.bool)


@lru_cache(maxsize=4)
def _tables(device: torch.device) -> _Tables:
    shapes = torch.full((len(_SHAPES) + 1, WIDTH), 0.5)
    for row, entries in zip(shapes, (*_SHAPES, _SPECIAL_SHAPE), strict=True):
        row[: len(entries)] = torch.tensor(entries)
    specials = torch.full((_NUM_SPECIAL, WIDTH), 1.5)
    for row, halves in zip(specials, combinations(range(WIDTH), 3), strict=False):
        row[list(halves)] = 0.5
    patterns = torch.cat([_small_patterns(), specials])
    powers_of_three = 3.0 ** torch.arange(WIDTH)
    index_of_key = torch.full((3**WIDTH,), -1, dtype=torch.int32)
    index_of_key[((patterns - 0.5) @ powers_of_three).to(torch.int32)] = torch.arange(len(patterns), dtype=torch.int32)
    tables = _Tables(
        shapes=shapes,
        half_norms=shapes.square().sum(1, keepdim=True) / 2,
        specials=specials,
        index_of_key=index_of_key,
        powers_of_two=2.0 ** torch.arange(WIDTH - 1),
        powers_of_three=powers_of_three,
        rows=torch.arange(WIDTH, dtype=torch.int32)[:, None],
        points=_all_points(patterns),
    )
    return _Tables(*(table.to(device) for table in tables))


def _small_patterns() -> Float32[Tensor, "227 8"]:
    """Return every pattern of squared norm at most 10."""
    every = torch.tensor(list(product((0.5, 1.5, 2.5), repeat=WIDTH)))
    return every[every.square().sum(1) <= 10]


def _all_points(patterns: Float32[Tensor, "256 8"]) -> Float32[Tensor, "points 8"]:
    code = torch.arange(NUM_POINTS)
    pattern = patterns[code >> 8].T
    negative = (code >> torch.arange(1, WIDTH + 1)[:, None] & 1).to(torch.bool)
    negative[-1] = is_odd(negative[:-1]) ^ is_odd(pattern == 1.5)
    shift = torch.where((code & 1).to(torch.bool), _SHIFT, -_SHIFT)
    return (torch.where(negative, -pattern, pattern) + shift).T.contiguous()
