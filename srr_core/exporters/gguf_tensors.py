"""One layer's codes as GGUF bytes: the smallest block type that the official decoder reads back exactly."""

from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from srr_core.errors import ExportError
from srr_core.exporters.gguf_blocks import BlockType, candidates
from srr_core.recipe import UniformGrid
from srr_core.types import IntegerTensor

_CHUNK_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class EncodedTensor:
    """A weight in one block type."""

    data: NDArray[np.uint8]
    """[out, bytes of a row]."""
    block_type: GGMLQuantizationType
    inexact: int
    """Weights that the block type rounded."""


def encode(name: str, weight: IntegerTensor, grid: UniformGrid, *, allow_inexact: bool) -> EncodedTensor:
    """Return a weight in the smallest block type that holds it exactly.

    Raises:
        ExportError: none does, and rounding was not allowed; the message says how many weights would be rounded.
    """
    choices = candidates(grid.num_bits, grid.group_size, weight.shape[1], is_power_of_two=grid.is_power_of_two)
    if not grid.is_symmetric or not choices:
        raise ExportError(
            f"{name}: no GGUF block type takes {grid.num_bits} bits in groups of {grid.group_size} over "
            f"{weight.shape[1]} inputs{'' if grid.is_symmetric else ' with zero points'}; export merged instead"
        )
    attempts = []
    for choice in choices:
        attempt = _encode_as(choice, weight)
        if attempt.inexact == 0:
            return attempt
        attempts.append(attempt)
    best = min(attempts, key=lambda attempt: attempt.inexact)
    if not allow_inexact:
        raise ExportError(
            f"{name}: {best.block_type.name}, the best fit, would round {best.inexact} of {weight.codes.numel()} "
            "weights; compress with quantizer.exponent_window, export merged, or set allow_inexact=true"
        )
    return best


def _encode_as(choice: BlockType, weight: IntegerTensor) -> EncodedTensor:
    out_features, in_features = weight.shape
    block_type = GGMLQuantizationType[choice.name]
    rows = max(1, _CHUNK_WEIGHTS // in_features)
    parts, inexact = [], 0
    for start in range(0, out_features, rows):
        codes = weight.codes[start : start + rows].numpy().astype(np.int64)
        scale = weight.scale[start : start + rows].numpy().repeat(weight.group_size, axis=1)[:, :in_features]
        blocks = choice.encode(codes.reshape(-1, choice.codes_per_block), scale.reshape(-1, choice.codes_per_block))
        data = blocks.reshape(len(codes), -1)
        parts.append(data)
        inexact += int((dequantize(data, block_type) != codes * scale).sum())
    return EncodedTensor(np.concatenate(parts), block_type, inexact)
