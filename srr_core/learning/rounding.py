"""One weight whose rounding is learned: an offset per weight before it is rounded, and factors on each group's range.

value = (clamp(round(target / scale + offset) + zero_point) - zero_point) * scale

Gradients pass the rounding as if it were not there. Offsets and factors move against the sign of their gradient by a
step of one size for all, as in SignRound (arXiv:2309.05516): the box they live in, [-1/2, 1/2] and [0, 1], is the same
for every weight, so the size of a gradient says nothing about how far to go. The gradients are written out by hand:
one pass over the weight each way, and nothing of it is kept for autograd.

The scale is rounded to the dtype of the format before any code is chosen, so what is learned on is what is stored.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import hardshrink, pad

from srr_core.quantizers.learned import LearnableTensor
from srr_core.recipe import IntegerSpec, LearnedSpec, MXIntSpec, UniformGrid
from srr_core.types import IntegerTensor

_LARGEST_OFFSET = 0.5
_SMALLEST_HALF = torch.finfo(torch.float16).smallest_normal * 2**-10
_LARGEST_SUBNORMAL = 2.0**-126 - 2.0**-149
_HALVES_PER_FACTOR = 2.0
"""A signed step that falls linearly travels half a unit in all, which must be enough to cross to the next exponent."""

Groups = Float32[Tensor, "out groups size"]
PerGroup = Float32[Tensor, "out groups"]


class LearnedRounding(ABC):
    """The codes of one weight while they are learned. Before the first step they are those of the start.

    Memory: three times the weight in float32, on its device.
    """

    def __init__(self, start: LearnableTensor, grid: UniformGrid) -> None:
        self._start = start
        self._lowest, self._highest = grid.lowest, grid.highest
        self._target = self._split(start.target)
        self._offset = torch.zeros_like(self._target)
        self._first_scale = start.scale.to(torch.float32)
        zero_point = start.zero_point
        self._first_zero = (
            torch.zeros_like(self._first_scale) if zero_point is None else zero_point.to(self._first_scale)
        )

    @abstractmethod
    def parameters(self) -> tuple[PerGroup, PerGroup]:
        """Return scale and zero point of every group, as they would be stored."""

    @abstractmethod
    def _move_range(self, scale_gradient: PerGroup, zero_gradient: PerGroup, step: float) -> None:
        """Move the factors on the ranges against the sign of their gradient."""

    def values(self) -> Float32[Tensor, "out in"]:
        """Return the weight as it is rounded now."""
        scale, zero = self.parameters()
        codes = self._rounded(scale, zero).clamp_(self._lowest, self._highest)
        return self._joined(codes.sub_(zero[..., None]).mul_(scale[..., None]))

    def step(self, gradient: Float32[Tensor, "out in"], step: float) -> None:
        """Move offsets and ranges by `step` against the sign of their gradient.

        Args:
            gradient: Of the loss by `values()`, as they were last.
        """
        scale, zero = self.parameters()
        by_group = self._split(gradient)
        rounded = self._rounded(scale, zero)
        inside = (rounded >= self._lowest) & (rounded <= self._highest)
        codes = rounded.clamp_(self._lowest, self._highest)
        free = by_group * inside
        scale_gradient = (codes.sub_(zero[..., None]) * by_group).sum(-1)
        scale_gradient -= (self._target * free).sum(-1) / scale
        zero_gradient = (free.sum(-1) - by_group.sum(-1)) * scale
        self._offset.sub_(free.sign_(), alpha=step).clamp_(-_LARGEST_OFFSET, _LARGEST_OFFSET)
        self._move_range(scale_gradient, zero_gradient, step)

    def tensor(self) -> IntegerTensor:
        """Return the codes and scales as they are now, to be stored."""
        scale, zero = self.parameters()
        codes = self._joined(self._rounded(scale, zero).clamp_(self._lowest, self._highest))
        start = self._start
        return IntegerTensor(
            shape=start.shape,
            spec=start.spec,
            codes=codes.to(start.codes.dtype),
            scale=scale,
            zero_point=None if start.zero_point is None else zero.to(start.zero_point.dtype),
            num_bits=start.num_bits,
            group_size=start.group_size,
            notes=start.notes,
        )

    def _rounded(self, scale: PerGroup, zero: PerGroup) -> Groups:
        # The same operations in the same order as the grid's own rounding, so that no offset means no change.
        return (self._target / scale[..., None]).add_(self._offset).round_().add_(zero[..., None])

    def _split(self, matrix: Float32[Tensor, "out in"]) -> Groups:
        padding = -matrix.shape[1] % self._start.group_size
        padded = pad(matrix, (0, padding)) if padding else matrix
        return padded.reshape(matrix.shape[0], -1, self._start.group_size)

    def _joined(self, groups: Groups) -> Float32[Tensor, "out in"]:
        return groups.flatten(1)[:, : self._start.shape[1]].contiguous()


class LearnedIntegers(LearnedRounding):
    """Affine integers: one factor on each end of the range, or one for both where it is symmetric."""

    def __init__(self, start: LearnableTensor, spec: IntegerSpec) -> None:
        super().__init__(start, spec.uniform_grid)
        self._steps = self._highest - self._lowest
        self._is_symmetric = spec.symmetric
        self._low = -self._first_zero * self._first_scale
        self._high = (self._steps - self._first_zero) * self._first_scale
        self._low_factor = torch.ones_like(self._first_scale)
        self._high_factor = torch.ones_like(self._first_scale)

    def parameters(self) -> tuple[PerGroup, PerGroup]:
        """Return scale and zero point of every group, the scale as fp16 holds it."""
        if self._is_symmetric:
            return _half(self._first_scale * self._high_factor), self._first_zero
        low = self._low * self._low_factor
        scale = _half((self._high * self._high_factor - low) / self._steps)
        return scale, (-low / scale).round_().clamp_(self._lowest, self._highest)

    def _move_range(self, scale_gradient: PerGroup, zero_gradient: PerGroup, step: float) -> None:
        if self._is_symmetric:
            _move(self._high_factor, scale_gradient * self._first_scale, step)
            return
        scale, _ = self.parameters()
        # zero = -low / scale and scale = (high - low) / steps, both ends times their factors.
        by_scale = scale_gradient + zero_gradient * (self._low * self._low_factor) / scale.square()
        low_gradient = -self._low * (by_scale / self._steps + zero_gradient / scale)
        _move(self._low_factor, low_gradient, step)
        _move(self._high_factor, by_scale * self._high / self._steps, step)


class LearnedExponents(LearnedRounding):
    """MXINT: the exponent of a block may fall by one, unless a window ties it to those of its neighbours."""

    def __init__(self, start: LearnableTensor, spec: MXIntSpec) -> None:
        super().__init__(start, spec.uniform_grid)
        self._target = hardshrink(self._target, _LARGEST_SUBNORMAL)  # counts as zero, as the grid has it
        self._is_tied = spec.exponent_window is not None
        self._factor = torch.ones_like(self._first_scale)

    def parameters(self) -> tuple[PerGroup, PerGroup]:
        """Return the power-of-two scale of every block."""
        fallen = ((1 - self._factor) * _HALVES_PER_FACTOR).round_().clamp_(0, 1)
        lower = self._first_scale / 2
        # A step that leaves the normal numbers cannot be halved exactly by every reader.
        may_fall = lower >= torch.finfo(torch.float32).smallest_normal
        return torch.where((fallen > 0) & may_fall, lower, self._first_scale), self._first_zero

    def _move_range(self, scale_gradient: PerGroup, zero_gradient: PerGroup, step: float) -> None:
        if not self._is_tied:
            _move(self._factor, scale_gradient, step)


def learned_rounding(start: LearnableTensor, spec: LearnedSpec) -> LearnedRounding:
    """Return the codes of a start, ready to learn."""
    grid = spec.grid
    return LearnedIntegers(start, grid) if isinstance(grid, IntegerSpec) else LearnedExponents(start, grid)


def _half(scale: PerGroup) -> PerGroup:
    rounded = scale.clamp(_SMALLEST_HALF, torch.finfo(torch.float16).max).to(torch.float16)
    return rounded.to(torch.float32)


def _move(factor: PerGroup, gradient: PerGroup, step: float) -> None:
    factor.sub_(gradient.sign(), alpha=step).clamp_(0.0, 1.0)
