"""One bit a weight: 256 points of the E8 lattice near the origin, and the nearest of them.

They are the origin, the 240 roots (112 of two entries ±1, 128 of eight entries ±½ with an even number of minus
signs) and 15 of the 16 points ±2 on an axis. Codes: 0 .. 127 the roots of halves by the signs of seven entries,
128 .. 239 the roots of ones by pair and signs, 240 the origin, 241 .. 255 the axes.

Source: Tseng et al., QuIP#, arXiv:2402.04396, section 4.3 (its residual codebook for 3 bits). Written from the
mathematics: the numbering, and which axis point is left out, are ours.
"""

from functools import lru_cache
from itertools import combinations

import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from srr_core.quantizers.e8p import WIDTH, is_odd

NUM_POINTS = 256

_FIRST_PAIR, _ORIGIN, _FIRST_AXIS = 128, 240, 241
_MISSING_AXIS = WIDTH - 1
"""The point -2 on the last axis is left out, so that there are 256."""


def nearest(vectors: Float32[Tensor, "8 count"]) -> tuple[Int32[Tensor, " count"], Float32[Tensor, "8 count"]]:
    """Return the code of the nearest point of each column, and the point."""
    magnitudes = vectors.abs()
    negative = vectors < 0
    (first, second), (at_first, at_second) = magnitudes.topk(2, dim=0)
    smallest, at_smallest = magnitudes.min(0)
    is_wrong = is_odd(negative)
    is_missing = (at_first == _MISSING_AXIS) & negative[_MISSING_AXIS]
    # Scores are vector · point - ‖point‖² / 2. Without its axis, a vector has a root of ones at least as near.
    scores = torch.stack(
        [
            magnitudes.sum(0) / 2 - 1 - torch.where(is_wrong, smallest, 0.0),
            first + second - 1,
            torch.zeros_like(first),
            torch.where(is_missing, -torch.inf, 2 * first - 2),
        ]
    )
    halves = negative ^ torch.zeros_like(negative).scatter_(0, at_smallest[None], is_wrong[None])
    places = 1 << torch.arange(WIDTH - 1, device=vectors.device)
    low, high = torch.minimum(at_first, at_second), torch.maximum(at_first, at_second)
    codes = torch.stack(
        [
            (halves[:-1] * places[:, None]).sum(0),
            _FIRST_PAIR + 4 * _pair_index(low, high) + 2 * _at(negative, low) + _at(negative, high),
            torch.full_like(at_first, _ORIGIN),
            _FIRST_AXIS + 2 * at_first + _at(negative, at_first),
        ]
    )
    chosen = codes.gather(0, scores.max(0, keepdim=True).indices)[0].to(torch.int32)
    return chosen, decode(chosen).T.contiguous()


def decode(codes: Int32[Tensor, "*shape"]) -> Float32[Tensor, "*shape 8"]:
    """Return the points of codes 0 .. 255."""
    return _points(codes.device)[codes]


def _at(flags: Tensor, row: Tensor) -> Tensor:
    return flags.gather(0, row[None])[0].to(torch.int64)


def _pair_index(low: Tensor, high: Tensor) -> Tensor:
    """Return the place of a pair low < high in the order of `combinations(range(8), 2)`."""
    return low * (2 * WIDTH - 1 - low) // 2 + high - low - 1


@lru_cache(maxsize=4)
def _points(device: torch.device) -> Float32[Tensor, "256 8"]:
    points = torch.zeros(NUM_POINTS, WIDTH)
    code = torch.arange(_FIRST_PAIR)
    negative = (code >> torch.arange(WIDTH)[:, None] & 1).to(torch.bool)
    negative[-1] = is_odd(negative[:-1])
    points[:_FIRST_PAIR] = torch.where(negative, -0.5, 0.5).T
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    for index, pair in enumerate(combinations(range(WIDTH), 2)):
        start = _FIRST_PAIR + 4 * index
        points[start : start + 4, list(pair)] = signs
    for axis in range(NUM_POINTS - _FIRST_AXIS):
        points[_FIRST_AXIS + axis, axis // 2] = -2.0 if axis % 2 else 2.0
    return points.to(device)
