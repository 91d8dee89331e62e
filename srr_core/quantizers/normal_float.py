"""NormalFloat: codes that index quantiles of a Gaussian, scaled by the largest magnitude of each block.

Blocks run over the weight flattened row by row, so they may cross rows. With double quantization the largest
magnitudes are themselves stored in 8 bits, and two halves of 16 per 256 blocks say what the 8 bits mean. Codes are
chosen for the magnitudes as stored, not as measured, so no error is hidden in them.

Source: Dettmers et al., QLoRA, arXiv:2305.14314, section 3 and appendix E. Deviation: the 8 bits count equal ratios
between the smallest and the largest of the 256, where the reference uses its dynamic 8-bit float around a mean. Each
magnitude errs by at most half a ratio: 0.3 % of itself for Gaussian weights, 1.2 % where one is 400 times another.
Around a mean a single huge weight leaves the other blocks of its 256 nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import ClassVar

import torch
from jaxtyping import Float, Float16, Float32, Int8, UInt8
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.grid import CHUNK_WEIGHTS
from srr_core.recipe import NormalFloatSpec
from srr_core.types import QuantizedTensor, Statistics

SUPERBLOCK = 256
"""Blocks that share what their 8-bit magnitudes mean."""

_OFFSET = 0.9677083
"""The reference's outermost probability, (1 - 1/30 + 1 - 1/32) / 2, which keeps the outermost quantile finite."""
_LARGEST_CODE = torch.iinfo(torch.uint8).max


@lru_cache
def normal_float_levels(num_bits: int) -> tuple[float, ...]:
    """Return the 2**num_bits levels in rising order, from -1 over 0 to 1; one more is positive than negative."""
    half = 2 ** (num_bits - 1)
    positive = _quantiles(half)
    negative = [-level for level in _quantiles(half - 1)]
    return tuple(level / positive[0] for level in (*negative, 0.0, *reversed(positive)))


def _quantiles(count: int) -> list[float]:
    """Return the Gaussian quantiles at `count` even probabilities from the outermost down towards ½, ½ left out."""
    step = (_OFFSET - 0.5) / count
    return [NormalDist().inv_cdf(_OFFSET - step * index) for index in range(count)]


@dataclass(frozen=True)
class Magnitudes:
    """The largest magnitude of each block, in 8 bits: 2 ** (lowest + code * step)."""

    codes: UInt8[Tensor, " blocks"]
    lowest: Float16[Tensor, " superblocks"]
    step: Float16[Tensor, " superblocks"]

    def values(self, first: int = 0, last: int | None = None) -> Float32[Tensor, " blocks"]:
        """Return the magnitudes that blocks `first` to `last` stand for, always positive."""
        codes = self.codes[first:last].to(torch.float64)
        places = torch.arange(first, first + len(codes), device=codes.device) // SUPERBLOCK
        # In float64, so that the last bit of float32 is the same whatever computes it.
        exponents = self.lowest.double()[places] + codes * self.step.double()[places]
        return torch.exp2(exponents).to(torch.float32)


@dataclass(frozen=True)
class NormalFloatTensor(QuantizedTensor):
    """Codes that index `normal_float_levels`, and one magnitude per block of the flattened weight."""

    layout: ClassVar[str] = "normal-float"

    codes: Int8[Tensor, "out in"]
    """0 .. 2**num_bits - 1."""
    magnitudes: Magnitudes | Float32[Tensor, " blocks"]
    num_bits: int
    block_size: int

    @override
    def dequantize(self) -> Float[Tensor, "out in"]:
        """Return the weight these codes stand for, float32."""
        levels = torch.tensor(normal_float_levels(self.num_bits), device=self.codes.device)
        stored = self.magnitudes.values() if isinstance(self.magnitudes, Magnitudes) else self.magnitudes
        values = levels[self.codes.flatten().to(torch.int32)]
        per_weight = stored[:, None].expand(-1, self.block_size).flatten()[: values.numel()]
        return values.mul_(per_weight).view(self.shape)

    @override
    def tensors(self) -> Mapping[str, Tensor]:
        """Return every tensor needed to rebuild this value, by short name, codes unpacked.

        `magnitude` alone, or `magnitude_codes`, `magnitude_lowest` and `magnitude_step` with double quantization.
        """
        if not isinstance(self.magnitudes, Magnitudes):
            return {"codes": self.codes, "magnitude": self.magnitudes}
        return {
            "codes": self.codes,
            "magnitude_codes": self.magnitudes.codes,
            "magnitude_lowest": self.magnitudes.lowest,
            "magnitude_step": self.magnitudes.step,
        }

    @override
    def code_bits(self) -> Mapping[str, int]:
        """Return the bits of one code; the 8 bits of a magnitude say what codes mean."""
        return {"codes": self.num_bits}


class NormalFloatQuantizer(Quantizer[NormalFloatSpec]):
    """Rounds to the nearest level of each block."""

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> NormalFloatTensor:
        blocks = _in_blocks(weight, self.spec.block_size)
        measured = blocks.abs().amax(-1)
        magnitudes = _in_eight_bits(measured) if self.spec.double_quantization else _never_zero(measured)
        stored = magnitudes.values() if isinstance(magnitudes, Magnitudes) else magnitudes
        codes = _nearest_levels(blocks, stored, self.spec.num_bits)
        return NormalFloatTensor(
            shape=(weight.shape[0], weight.shape[1]),
            spec=self.spec,
            codes=codes.flatten()[: weight.numel()].view(weight.shape),
            magnitudes=magnitudes,
            num_bits=self.spec.num_bits,
            block_size=self.spec.block_size,
        )


def _in_blocks(weight: Float32[Tensor, "out in"], block_size: int) -> Float32[Tensor, "blocks size"]:
    flat = weight.reshape(-1)
    padding = -flat.numel() % block_size
    return (pad(flat, (0, padding)) if padding else flat).view(-1, block_size)


def _nearest_levels(
    blocks: Float32[Tensor, "blocks size"], magnitudes: Float32[Tensor, " blocks"], num_bits: int
) -> Int8[Tensor, "blocks size"]:
    """Return how many midpoints between levels each value exceeds, which is the index of its nearest level.

    Counting costs 6 ns a weight at 4 bits, the binary search of `torch.bucketize` 30.
    """
    levels = normal_float_levels(num_bits)
    codes = torch.zeros(blocks.shape, dtype=torch.int8, device=blocks.device)
    rows = max(1, CHUNK_WEIGHTS // blocks.shape[1]) if blocks.device.type == "cpu" else blocks.shape[0]
    for target, chunk, scale in zip(
        torch.split(codes, rows), torch.split(blocks, rows), torch.split(magnitudes, rows), strict=True
    ):
        normalized = chunk / scale[:, None]
        for lower, upper in pairwise(levels):
            target.add_(normalized > (lower + upper) / 2)
    return codes


def _never_zero(magnitudes: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Return 1 for a block of zeros, so that it can be divided by."""
    return torch.where(magnitudes > 0, magnitudes, 1.0)


def _in_eight_bits(magnitudes: Float32[Tensor, " blocks"]) -> Magnitudes:
    # A block of zeros needs no magnitude, so it does not widen the range of the others.
    exponents = torch.where(magnitudes > 0, magnitudes.double().log2(), torch.nan)
    together = pad(exponents, (0, -exponents.numel() % SUPERBLOCK), value=torch.nan).view(-1, SUPERBLOCK)
    is_empty = together.isnan().all(-1)
    smallest = together.nan_to_num(nan=torch.inf).amin(-1).masked_fill_(is_empty, 0.0)
    largest = together.nan_to_num(nan=-torch.inf).amax(-1).masked_fill_(is_empty, 0.0)
    # Eighths of what float32 can hold are exact in float16.
    lowest = (smallest * 8).floor_().div_(8).to(torch.float16)
    step = ((largest - lowest.double()) / _LARGEST_CODE).to(torch.float16)
    codes = (together - lowest.double()[:, None]) / step.double()[:, None]
    codes = codes.nan_to_num_(nan=0.0).round_().clamp_(0, _LARGEST_CODE).to(torch.uint8)
    return Magnitudes(codes.flatten()[: magnitudes.numel()], lowest, step)
