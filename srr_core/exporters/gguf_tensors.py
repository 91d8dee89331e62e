"""One layer's codes as GGUF bytes: the smallest block type that the official decoder reads back exactly."""

from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from srr_core.errors import ExportError
from srr_core.exporters.gguf_blocks import BLOCK, BlockType, candidates, q4_1, q5_1
from srr_core.recipe import UniformGrid
from srr_core.recipe.gguf_types import offset_type
from srr_core.types import IntegerTensor

_CHUNK_WEIGHTS = 1 << 22
_LARGEST_OFFSET_ERROR = 31 * 2.0**-11
"""Of a step: an offset is at most 31 steps, and fp16 keeps eleven bits of it. One beyond the range of fp16 is above."""


@dataclass(frozen=True)
class EncodedTensor:
    """A weight in one block type."""

    data: NDArray[np.uint8]
    """[out, bytes of a row]."""
    block_type: GGMLQuantizationType
    inexact: int
    """Weights that the block type rounded."""
    offset_error: float = 0.0
    """Largest change by rounding offsets to fp16, as a share of one quantization step."""


def encode(name: str, weight: IntegerTensor, grid: UniformGrid, *, allow_inexact: bool) -> EncodedTensor:
    """Return a weight in the smallest block type that holds it exactly.

    Raises:
        ExportError: none does, and rounding was not allowed; the message says how many weights would be rounded.
    """
    if weight.zero_point is not None:
        return _with_offsets(name, weight, grid)
    choices = candidates(grid.num_bits, grid.group_size, weight.shape[1], is_power_of_two=grid.is_power_of_two)
    if not choices:
        raise _no_type(name, weight, grid)
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


def _no_type(name: str, weight: IntegerTensor, grid: UniformGrid) -> ExportError:
    zero_points = "" if grid.is_symmetric else " with zero points"
    return ExportError(
        f"{name}: no GGUF block type takes {grid.num_bits} bits in groups of {grid.group_size} over "
        f"{weight.shape[1]} inputs{zero_points}; set merged=q6_k"
    )


def _with_offsets(name: str, weight: IntegerTensor, grid: UniformGrid) -> EncodedTensor:
    """Return codes with zero points in blocks with an offset; only the offset is rounded, and by how much is told."""
    kind = offset_type(grid.num_bits, grid.group_size)
    if kind is None or weight.zero_point is None or weight.shape[1] % BLOCK:
        raise _no_type(name, weight, grid)
    encode_block = q4_1 if kind == "Q4_1" else q5_1
    block_type = GGMLQuantizationType[kind]
    scale = weight.scale.numpy().repeat(weight.group_size, axis=1)[:, : weight.shape[1]]
    zeros = weight.zero_point.numpy().astype(np.float32).repeat(weight.group_size, axis=1)[:, : weight.shape[1]]
    codes = weight.codes.numpy().astype(np.int64)
    offsets = (-zeros * scale).reshape(-1, BLOCK)
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = encode_block(codes.reshape(-1, BLOCK), scale.reshape(-1, BLOCK), offsets)
        data = blocks.reshape(len(codes), -1)
        change = np.abs(dequantize(data, block_type) - (codes - zeros) * scale)
        steps = float(np.divide(change, scale, out=np.zeros_like(change), where=scale > 0).max(initial=0.0))
    if not np.isfinite(change).all() or steps > _LARGEST_OFFSET_ERROR:
        raise ExportError(f"{name}: {kind} would change a weight by {steps:.3f} of a step; set merged=q6_k")
    return EncodedTensor(data, block_type, 0, steps)


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
