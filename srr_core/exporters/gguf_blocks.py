"""Integer codes as GGUF blocks, byte for byte; exactness is checked by the official decoder, not assumed.

Simple blocks hold 32 codes and one fp16 scale. Super-blocks hold 256 codes, one fp16 scale and a small integer
scale per 16 codes: powers of two fit where the exponents inside a super-block spread over few steps. A spread
beyond that pushes the smallest exponents up and rounds their codes, which the check then counts. Codes with a zero
point go into simple blocks with an fp16 offset, which is rounded where zero point times scale needs more bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Exponents = NDArray[np.int64]
Bytes = NDArray[np.uint8]

BLOCK = 32
SUPERBLOCK = 256
SUBBLOCK = 16

_E2M1 = np.array([0, 2, 4, 5, 6, 0, 7, 0], dtype=np.uint8)
"""E2M1 code of the magnitudes 0, 1, 2, 3, 4 and 6; 5 and 7 have none and never occur in codes of 3 bits."""
_MXFP4_BIAS = 127
_SHIFTS_2 = np.array([0, 2, 4, 6], dtype=np.uint8)


@dataclass(frozen=True)
class BlockType:
    """One GGUF block type and how codes are written into it."""

    name: str
    codes_per_block: int
    largest_bits: int
    encode: Callable[[Codes, NDArray[np.float32]], Bytes]
    """Takes codes [blocks, codes] and the scale of every code [blocks, codes]; returns [blocks, bytes]."""
    needs_power_of_two: bool = True


def q4_0(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """4-bit codes with one fp16 scale per 32: any symmetric grid of up to 4 bits."""
    nibbles = (codes + 8).astype(np.uint8).reshape(-1, 2, 16)
    return np.concatenate([_half(scales[:, 0]), nibbles[:, 0] | (nibbles[:, 1] << 4)], axis=-1)


def q5_0(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """5-bit codes with one fp16 scale per 32; the fifth bits lie together in four bytes."""
    unsigned = (codes + 16).astype(np.uint32)
    high = ((unsigned >> 4) << np.arange(BLOCK, dtype=np.uint32)).sum(-1).astype("<u4")
    nibbles = (unsigned & 15).astype(np.uint8).reshape(-1, 2, 16)
    low = nibbles[:, 0] | (nibbles[:, 1] << 4)
    return np.concatenate([_half(scales[:, 0]), _raw(high[:, None]), low], axis=-1)


def q8_0(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """8-bit codes with one fp16 scale per 32."""
    return np.concatenate([_half(scales[:, 0]), _raw(codes.astype(np.int8))], axis=-1)


def mxfp4(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """Codes -3 .. 3 as E2M1 numbers with a power of two per 32; every exponent fits."""
    exponents = np.clip(_exponents(scales[:, 0]) + _MXFP4_BIAS, 0, 254).astype(np.uint8)
    magnitude = _E2M1[np.abs(codes)] | ((codes < 0).astype(np.uint8) << 3)
    halves = magnitude.reshape(-1, 2, 16)
    return np.concatenate([exponents[:, None], halves[:, 0] | (halves[:, 1] << 4)], axis=-1)


def q3_k(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """Codes -3 .. 3, six exponents in a row: scales 1 to 16, and -32 with negated codes."""
    values, relative, base = _aligned(codes, scales, spread=5)
    values = np.where((relative == 5)[..., None], -values, values)
    small = (np.where(relative == 5, -32, 1 << np.minimum(relative, 4)) + 32).astype(np.uint8)
    low_scales = (small[:, :8] & 15) | ((small[:, 8:] & 15) << 4)
    high_scales = ((small >> 4).reshape(-1, 4, 4) << _SHIFTS_2[None, :, None]).sum(1).astype(np.uint8)
    unsigned = (values + 4).astype(np.uint8).reshape(-1, SUPERBLOCK)
    high_bits = ((unsigned >> 2).reshape(-1, 8, 32) << np.arange(8, dtype=np.uint8)[None, :, None]).sum(1)
    return np.concatenate(
        [
            high_bits.astype(np.uint8),
            _pairs_of_bits((unsigned & 3).astype(np.uint8)),
            low_scales,
            high_scales,
            _power(base),
        ],
        axis=-1,
    )


def q2_k(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """Codes -1 .. 1, four exponents in a row; the offset of one step is the block's minimum."""
    values, relative, base = _aligned(codes, scales, spread=3)
    small = (1 << relative).astype(np.uint8)
    unsigned = (values + 1).astype(np.uint8).reshape(-1, SUPERBLOCK)
    power = _power(base)
    return np.concatenate([small | (small << 4), _pairs_of_bits(unsigned), power, power], axis=-1)


def q6_k(codes: Codes, scales: NDArray[np.float32]) -> Bytes:
    """Codes of up to 6 bits, eight exponents in a row: scales 1 to 64, and -128 with negated codes."""
    values, relative, base = _aligned(codes, scales, spread=7)
    values = np.where((relative == 7)[..., None], -values, values)
    small = np.where(relative == 7, -128, 1 << np.minimum(relative, 6)).astype(np.int8)
    with np.errstate(over="ignore", under="ignore"):
        return pack_q6_k(values, small, np.exp2(base.astype(np.float64)).astype(np.float16))


def pack_q6_k(values: Codes, small: NDArray[np.int8], unit: NDArray[np.float16]) -> Bytes:
    """Return blocks of Q6_K: codes of -32 .. 31, a scale per 16 of them, and the fp16 unit of the scales."""
    quarters = (values + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    first, second, third, fourth = (quarters[:, :, index] for index in range(4))
    low = np.concatenate([(first & 15) | ((third & 15) << 4), (second & 15) | ((fourth & 15) << 4)], axis=-1)
    high = (first >> 4) | ((second >> 4) << 2) | ((third >> 4) << 4) | ((fourth >> 4) << 6)
    halves = _raw(unit.astype("<f2")[:, None])
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), _raw(small), halves], axis=-1)


def q4_1(codes: Codes, scales: NDArray[np.float32], offsets: NDArray[np.float32]) -> Bytes:
    """Codes 0 .. 15 with an fp16 scale and an fp16 offset per 32."""
    nibbles = codes.astype(np.uint8).reshape(-1, 2, 16)
    packed = nibbles[:, 0] | (nibbles[:, 1] << 4)
    return np.concatenate([_half(scales[:, 0]), _half(offsets[:, 0]), packed], axis=-1)


def q5_1(codes: Codes, scales: NDArray[np.float32], offsets: NDArray[np.float32]) -> Bytes:
    """Codes 0 .. 31 with an fp16 scale and an fp16 offset per 32; the fifth bits lie together in four bytes."""
    unsigned = codes.astype(np.uint32)
    high = ((unsigned >> 4) << np.arange(BLOCK, dtype=np.uint32)).sum(-1).astype("<u4")
    nibbles = (unsigned & 15).astype(np.uint8).reshape(-1, 2, 16)
    low = nibbles[:, 0] | (nibbles[:, 1] << 4)
    return np.concatenate([_half(scales[:, 0]), _half(offsets[:, 0]), _raw(high[:, None]), low], axis=-1)


Q4_0 = BlockType("Q4_0", BLOCK, 4, q4_0, needs_power_of_two=False)
Q5_0 = BlockType("Q5_0", BLOCK, 5, q5_0, needs_power_of_two=False)
Q8_0 = BlockType("Q8_0", BLOCK, 8, q8_0, needs_power_of_two=False)
MXFP4 = BlockType("MXFP4", BLOCK, 3, mxfp4)
Q2_K = BlockType("Q2_K", SUPERBLOCK, 2, q2_k)
Q3_K = BlockType("Q3_K", SUPERBLOCK, 3, q3_k)
Q6_K = BlockType("Q6_K", SUPERBLOCK, 6, q6_k)

_SIMPLE = (MXFP4, Q4_0, Q5_0, Q8_0)
_SUPER = (Q2_K, Q3_K, Q6_K)


def candidates(num_bits: int, group_size: int, in_features: int, *, is_power_of_two: bool) -> tuple[BlockType, ...]:
    """Return the block types that may hold a symmetric grid exactly, smallest first."""
    found = []
    for block in sorted((*_SUPER, *_SIMPLE), key=lambda block: (block.largest_bits, -block.codes_per_block)):
        group = SUBBLOCK if block.codes_per_block == SUPERBLOCK else BLOCK
        fits = group_size % group == 0 and in_features % block.codes_per_block == 0
        if fits and num_bits <= block.largest_bits and (is_power_of_two or not block.needs_power_of_two):
            found.append(block)
    return tuple(found)


def _aligned(codes: Codes, scales: NDArray[np.float32], *, spread: int) -> tuple[Codes, Exponents, Exponents]:
    """Return codes and exponents relative to the lowest one a super-block can hold, and that exponent."""
    count = len(codes)
    values = codes.reshape(count, SUPERBLOCK // SUBBLOCK, SUBBLOCK)
    exponents = _exponents(scales.reshape(count, -1, SUBBLOCK)[:, :, 0])
    # A block of zeros may carry any exponent; it must not drag its neighbours along.
    is_zero = ~values.any(-1)
    exponents = np.where(is_zero, np.iinfo(np.int32).min // 2, exponents)
    highest = exponents.max(-1)
    base = np.where(is_zero.all(-1), 0, highest - spread)
    missing = np.clip(base[:, None] - exponents, 0, 62)
    shifted = np.rint(values / np.exp2(missing)[..., None]).astype(np.int64)
    relative = np.maximum(exponents, base[:, None]) - base[:, None]
    return shifted, relative, base


def _pairs_of_bits(unsigned: Bytes) -> Bytes:
    packed = (unsigned.reshape(-1, 2, 4, 32) << _SHIFTS_2[None, None, :, None]).sum(2)
    flat: Bytes = packed.astype(np.uint8).reshape(-1, 64)
    return flat


def _exponents(scales: NDArray[np.float32]) -> Exponents:
    return (np.frexp(scales)[1] - 1).astype(np.int64)


def _half(scales: NDArray[np.float32]) -> Bytes:
    with np.errstate(over="ignore", under="ignore"):
        return _raw(scales.astype("<f2")[:, None])


def _power(exponents: Exponents) -> Bytes:
    with np.errstate(over="ignore", under="ignore"):
        return _half(np.exp2(exponents.astype(np.float64)).astype(np.float32))


def _raw(values: NDArray[np.generic]) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8)
