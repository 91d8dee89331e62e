"""Any weights rounded to GGUF blocks, for a single file that holds Q + L·R; every block's fit is the plain one.

The official package rounds to Q8_0 itself, and only reads the K types. Those are fitted here per sub-block, from its
largest magnitude (Q6_K) or its range (Q4_K), without a search: the error is measured and said, not assumed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from srr_core.exporters.gguf_blocks import BLOCK, SUBBLOCK, SUPERBLOCK, Bytes, pack_q6_k

Values = NDArray[np.float32]
_Q6_LARGEST = 32
_Q6_SCALES = 128
_Q4_LEVELS = 15
_Q4_SCALES = 63


def round_to(values: Values, block_type: GGMLQuantizationType) -> Bytes:
    """Return rows of weights as blocks of a type.

    Args:
        values: [rows, inputs]; inputs a multiple of the type's block.
    """
    encode = _ENCODERS.get(block_type)
    if encode is None:
        return quantize(values, block_type)
    return encode(values.reshape(-1, SUPERBLOCK)).reshape(len(values), -1)


def rounding_error(values: Values, data: Bytes, block_type: GGMLQuantizationType) -> tuple[float, float]:
    """Return the squared norms of what rounding changed, by the official decoder, and of the weights."""
    difference = dequantize(data, block_type).astype(np.float64) - values
    return float((difference**2).sum()), float((values.astype(np.float64) ** 2).sum())


def type_for(name: str, in_features: int) -> GGMLQuantizationType:
    """Return the type a layer is rounded to: the one asked for, or Q8_0 where its rows are no whole super-blocks."""
    wanted = GGMLQuantizationType[name]
    return wanted if wanted not in _ENCODERS or in_features % SUPERBLOCK == 0 else GGMLQuantizationType.Q8_0


def q6_k_nearest(values: Values) -> Bytes:
    """Round super-blocks of 256 to 6 bits: one step per 16, itself a multiple of one fp16 number."""
    blocks = values.reshape(len(values), -1, SUBBLOCK)
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    steps = peaks / -_Q6_LARGEST
    largest = np.take_along_axis(steps, np.abs(steps).argmax(-1)[:, None], -1)
    unit = (largest / -_Q6_SCALES).astype(np.float16)
    small = np.clip(np.rint(_divided(steps, unit)), -_Q6_SCALES, _Q6_SCALES - 1)
    codes = np.clip(np.rint(_divided(blocks, (small * unit)[..., None])), -_Q6_LARGEST, _Q6_LARGEST - 1)
    return pack_q6_k(codes.astype(np.int64), small.astype(np.int8), unit[:, 0])


def q4_k_nearest(values: Values) -> Bytes:
    """Round super-blocks of 256 to 4 bits: one step and one offset per 32, each six bits of an fp16 number."""
    blocks = values.reshape(len(values), -1, BLOCK)
    offsets = -np.minimum(blocks.min(-1), 0)
    steps = (blocks.max(-1) + offsets) / _Q4_LEVELS
    step_unit = (steps.max(-1, keepdims=True) / _Q4_SCALES).astype(np.float16)
    offset_unit = (offsets.max(-1, keepdims=True) / _Q4_SCALES).astype(np.float16)
    small_steps = np.clip(np.rint(_divided(steps, step_unit)), 0, _Q4_SCALES)
    small_offsets = np.clip(np.rint(_divided(offsets, offset_unit)), 0, _Q4_SCALES)
    shifted = blocks + (small_offsets * offset_unit)[..., None]
    codes = np.clip(np.rint(_divided(shifted, (small_steps * step_unit)[..., None])), 0, _Q4_LEVELS).astype(np.uint8)
    pairs = codes.reshape(len(values), -1, 2, BLOCK)
    return np.concatenate(
        [
            _bytes(step_unit),
            _bytes(offset_unit),
            _six_bits(small_steps.astype(np.uint8), small_offsets.astype(np.uint8)),
            (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(len(values), -1),
        ],
        axis=-1,
    )


def _six_bits(steps: Bytes, offsets: Bytes) -> Bytes:
    """Return eight pairs of six-bit numbers in twelve bytes: the last four lend their upper bits to the others."""
    low = np.concatenate([steps[:, :4], offsets[:, :4]], axis=-1)
    high = np.concatenate([steps[:, 4:] >> 4, offsets[:, 4:] >> 4], axis=-1) << 6
    return np.concatenate([low | high, (steps[:, 4:] & 15) | ((offsets[:, 4:] & 15) << 4)], axis=-1)


def _divided(values: NDArray[np.floating], by: NDArray[np.floating]) -> NDArray[np.floating]:
    wide = np.broadcast_to(by.astype(np.float32), values.shape)
    quotient: NDArray[np.floating] = np.divide(
        values, wide, out=np.zeros_like(values, dtype=np.float32), where=wide != 0
    )
    return quotient


def _bytes(values: NDArray[np.float16]) -> Bytes:
    return np.ascontiguousarray(values.astype("<f2")).view(np.uint8)


_ENCODERS: Mapping[GGMLQuantizationType, Callable[[Values], Bytes]] = MappingProxyType(
    {GGMLQuantizationType.Q6_K: q6_k_nearest, GGMLQuantizationType.Q4_K: q4_k_nearest}
)
