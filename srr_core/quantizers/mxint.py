"""MXINT: signed integers that share one power-of-two step per block.

The exponent is the one of the block's largest magnitude, so the largest magnitudes saturate by up to
12.5 % at 4 bits, 25 % at 3 and 50 % at 2. That is the format's main error and what `exponent="search"` trades.

Source: the OCP Microscaling formats (2023); procedure of QERA, arXiv:2410.06040. Codes are symmetric:
the code -2**(num_bits - 1) is never used.
"""

import torch
from jaxtyping import Float32, Int32
from torch import Tensor
from torch.nn.functional import hardshrink, pad
from typing_extensions import override

from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.grid import Grid, GroupParameters, round_to_nearest
from srr_core.recipe import MXIntSpec
from srr_core.types import IntegerTensor, Statistics

WINDOW_INPUTS = 256
"""Inputs of one row that share a GGUF super-block; `exponent_window` holds inside each."""

_MANTISSA_BITS = 23
_SMALLEST_EXPONENT = 1
"""Biased. The exponent of 2**-126, the smallest normal float32, and of a block of zeros."""
_LARGEST_SUBNORMAL = 2.0**-126 - 2.0**-149


class MXIntGrid(Grid):
    """Steps 2**(E - num_bits + 2), where E = floor(log2(max|x|)) of the block, or one less when searching."""

    def __init__(self, spec: MXIntSpec) -> None:
        super().__init__(spec.uniform_grid)
        self.search = spec.exponent == "search"
        self.window = spec.exponent_window

    @override
    def fit(self, groups: Float32[Tensor, "out groups size"]) -> GroupParameters:
        """Return the power-of-two step of each block, exact in float32 and bfloat16."""
        exponents = groups.abs().amax(-1).view(torch.int32) >> _MANTISSA_BITS
        exponents = exponents.clamp_(min=_SMALLEST_EXPONENT)
        if self.search:
            exponents = self._search(groups, exponents)
        if self.window is not None:
            exponents = self._raise_to_window(exponents, self.window)
        return GroupParameters(self._steps(exponents), None)

    @override
    def round(
        self,
        values: Float32[Tensor, "..."],
        scale: Float32[Tensor, "..."],
        zero_point: Float32[Tensor, "..."] | None,
    ) -> Float32[Tensor, "..."]:
        """Return the nearest codes, ties to even. Subnormal values count as zero, as the source has it."""
        return super().round(hardshrink(values, _LARGEST_SUBNORMAL), scale, zero_point)

    def _steps(self, exponents: Int32[Tensor, "out groups"]) -> Float32[Tensor, "out groups"]:
        # The exponent field is the power of two itself; the second factor may lead into the subnormals, still exact.
        return (exponents << _MANTISSA_BITS).view(torch.float32) * 2.0 ** (2 - self.num_bits)

    def _search(
        self, groups: Float32[Tensor, "out groups size"], exponents: Int32[Tensor, "out groups"]
    ) -> Int32[Tensor, "out groups"]:
        """Return E or E - 1, whichever leaves less squared error; E - 2 never wins."""
        lower = (exponents - 1).clamp_(min=_SMALLEST_EXPONENT)
        # Errors are in units of their own step, so squares cannot vanish; half the step is a quarter of the square.
        better = self._error(groups, lower) / 4 < self._error(groups, exponents)
        return torch.where(better, lower, exponents)

    def _error(
        self, groups: Float32[Tensor, "out groups size"], exponents: Int32[Tensor, "out groups"]
    ) -> Float32[Tensor, "out groups"]:
        steps = self._steps(exponents)[..., None]
        return (self.round(groups, steps, None) - groups / steps).square_().sum(-1)

    def _raise_to_window(self, exponents: Int32[Tensor, "out groups"], window: int) -> Int32[Tensor, "out groups"]:
        rows, count = exponents.shape
        blocks = WINDOW_INPUTS // self.group_size
        filled = pad(exponents, (0, -count % blocks), value=_SMALLEST_EXPONENT).reshape(rows, -1, blocks)
        raised = torch.maximum(filled, filled.amax(-1, keepdim=True) - window)
        return raised.flatten(1)[:, :count]

    @override
    def notes(self, parameters: GroupParameters) -> tuple[str, ...]:
        """Return nothing: every exponent of float32 has a step."""
        return ()


class MXIntQuantizer(Quantizer[MXIntSpec]):
    """Rounds to the nearest point of the MXINT grid. A power of two times the weight gives the same codes."""

    def __init__(self, spec: MXIntSpec) -> None:
        super().__init__(spec)
        self.grid = MXIntGrid(spec)

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> IntegerTensor:
        return round_to_nearest(weight, self.grid, self.spec)
