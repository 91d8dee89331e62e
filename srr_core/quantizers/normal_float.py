"""NormalFloat: codes that index quantiles of a Gaussian, scaled by the largest magnitude of each block.

Blocks run over the weight flattened row by row, so they may cross rows. With double quantization the largest
magnitudes are themselves stored in 8 bits: a mean over the weight, and one fp32 step per 256 blocks. Codes are
chosen for the magnitudes as stored, not as measured, so no error is hidden in them.

Source: Dettmers et al., QLoRA, arXiv:2305.14314, section 3 and appendix E. Deviation: the 8 bits are linear,
where the reference uses its dynamic 8-bit float; both err by less than 1 % of a typical magnitude.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.grid import CHUNK_WEIGHTS
from srr_core.recipe import NormalFloatSpec
from srr_core.types import QuantizedTensor, Statistics

SUPERBLOCK = 256
"""Blocks that share one fp32 step of their 8-bit magnitudes."""

_OFFSET = 0.9677083
"""The reference's outermost probability, (1 - 1/30 + 1 - 1/32) / 2, which keeps the outermost quantile finite."""
_LARGEST_CODE = torch.iinfo(torch.int8).max


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
    """The largest magnitude of each block: measured, or in 8 bits around a mean."""

    codes: Int8[Tensor, " blocks"]
    step: Float32[Tensor, " superblocks"]
    mean: Float32[Tensor, ""]

    def values(self) -> Float32[Tensor, " blocks"]:
        """Return the magnitudes these codes stand for, never negative."""
        steps = self.step.repeat_interleave(SUPERBLOCK)[: self.codes.numel()]
        return (self.codes.to(torch.float32) * steps + self.mean).clamp_(min=0.0)


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

        `magnitude` alone, or `magnitude_codes`, `magnitude_step` and `magnitude_mean` with double quantization.
        """
        if not isinstance(self.magnitudes, Magnitudes):
            return {"codes": self.codes, "magnitude": self.magnitudes}
        return {
            "codes": self.codes,
            "magnitude_codes": self.magnitudes.codes,
            "magnitude_step": self.magnitudes.step,
            "magnitude_mean": self.magnitudes.mean,
        }


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
        # Magnitudes far below the mean may be stored as zero; then every level is zero, and its code is as good as any.
        codes = _nearest_levels(blocks, _never_zero(stored), self.spec.num_bits)
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
    mean = magnitudes.mean()
    centred = _in_blocks((magnitudes - mean)[None], SUPERBLOCK)
    step = _never_zero(centred.abs().amax(-1) / _LARGEST_CODE)
    codes = (centred / step[:, None]).round_().clamp_(-_LARGEST_CODE, _LARGEST_CODE)
    return Magnitudes(codes.flatten()[: magnitudes.numel()].to(torch.int8), step, mean)
