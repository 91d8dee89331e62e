"""Affine integers: one fp16 step, and on asymmetric grids one zero point, per group along the input.

The step is rounded to fp16 before any code is chosen, so what is stored is what was rounded to.

Source: the grid of GPTQ, arXiv:2210.17323. Deviation: a symmetric group without negative weights keeps the
symmetric range; the reference halves its step there and clips.
"""

import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from typing_extensions import override

from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.grid import Grid, GroupParameters, round_to_nearest
from srr_core.recipe import AffineSpec
from srr_core.types import IntegerTensor, Statistics

_SEARCH_STEPS = 80
_SEARCH_RESOLUTION = 100
_SEARCH_NORM = 2.4
"""The reference's `grid`, `maxshrink` and `norm`: shrink factors 1 - i/100 for i < 80, errors to the power 2.4."""

_SMALLEST_STEP = torch.finfo(torch.float16).smallest_normal * 2**-10
_LARGEST_STEP = torch.finfo(torch.float16).max


class IntegerGrid(Grid):
    """Codes 0 .. 2**num_bits - 1 around a zero point, or signed codes around zero when symmetric."""

    def __init__(self, spec: AffineSpec) -> None:
        super().__init__(spec.uniform_grid)
        self.search = spec.searches

    @override
    def fit(self, groups: Float32[Tensor, "out groups size"]) -> GroupParameters:
        """Return the fp16 step and the zero point of each group's range, which always includes 0."""
        low, high = groups.amin(-1).clamp_(max=0.0), groups.amax(-1).clamp_(min=0.0)
        if self.is_symmetric:
            high = torch.maximum(-low, high)
            low = -high
        return self._search(groups, low, high) if self.search else self._parameters(low, high)

    @override
    def notes(self, parameters: GroupParameters) -> tuple[str, ...]:
        """Say how many groups hold weights too small or too large for an fp16 step."""
        scale = parameters.scale
        count = int(((scale <= _SMALLEST_STEP) | (scale >= _LARGEST_STEP)).sum())
        return (f"the step of {count} of {scale.numel()} groups was clamped to the range of float16",) if count else ()

    def _parameters(self, low: Float32[Tensor, "out groups"], high: Float32[Tensor, "out groups"]) -> GroupParameters:
        steps = self.highest - self.lowest
        # A group of zeros takes the range -1 .. 1, as in the reference. Dividing first cannot overflow.
        scale = torch.where(low == high, 2.0 / steps, high / steps - low / steps)
        scale = scale.clamp_(_SMALLEST_STEP, _LARGEST_STEP).to(torch.float16).to(torch.float32)
        if self.is_symmetric:
            return GroupParameters(scale, None)
        low = torch.where(low == high, -1.0, low)
        return GroupParameters(scale, (-low / scale).round_().clamp_(self.lowest, self.highest))

    def _search(
        self,
        groups: Float32[Tensor, "out groups size"],
        low: Float32[Tensor, "out groups"],
        high: Float32[Tensor, "out groups"],
    ) -> GroupParameters:
        """Return the parameters of the shrunk range with the smallest error in the 2.4-norm."""
        best = self._parameters(low, high)
        unit = best.scale
        smallest = self._error(groups, best, unit)
        for index in range(1, _SEARCH_STEPS):
            factor = 1 - index / _SEARCH_RESOLUTION
            candidate = self._parameters(low * factor, high * factor)
            error = self._error(groups, candidate, unit)
            better = error < smallest
            smallest = torch.where(better, error, smallest)
            best = _where(better, candidate, best)
        return best

    def _error(
        self,
        groups: Float32[Tensor, "out groups size"],
        parameters: GroupParameters,
        unit: Float32[Tensor, "out groups"],
    ) -> Float32[Tensor, "out groups"]:
        scale = parameters.scale[..., None]
        zero_point = None if parameters.zero_point is None else parameters.zero_point[..., None]
        codes = self.round(groups, scale, zero_point)
        values = codes if zero_point is None else codes - zero_point
        # In units of the unshrunk step, so that powers of tiny errors do not vanish; the logarithm's -inf of a zero
        # comes back as a zero, and both functions together take a quarter of the time of `pow`.
        error = ((values * scale - groups) / unit[..., None]).abs_()
        return error.log_().mul_(_SEARCH_NORM).exp_().sum(-1)


def _where(
    choice: Bool[Tensor, "out groups"], candidate: GroupParameters, otherwise: GroupParameters
) -> GroupParameters:
    scale = torch.where(choice, candidate.scale, otherwise.scale)
    if candidate.zero_point is None or otherwise.zero_point is None:
        return GroupParameters(scale, None)
    return GroupParameters(scale, torch.where(choice, candidate.zero_point, otherwise.zero_point))


class IntegerQuantizer(Quantizer[AffineSpec]):
    """Rounds to the nearest point of the integer grid."""

    def __init__(self, spec: AffineSpec) -> None:
        super().__init__(spec)
        self.grid = IntegerGrid(spec)

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> IntegerTensor:
        return round_to_nearest(weight, self.grid, self.spec)
