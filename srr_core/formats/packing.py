"""Codes of a few bits as a dense little-endian bit stream: the packing of every file and kernel here.

Eight codes of b bits are exactly b bytes, so a row is merged pairwise (8 codes into one 64-bit
word, in three steps) and the low b bytes of every word are kept. Nothing loops over columns.
compressed-tensors stores this stream in int32 words, dense for 3, 5, 6 and 7 bits since its 0.18;
GPTQ stores it transposed. Words are little-endian as on every machine torch runs on.
"""

import torch
from jaxtyping import Int, Int8, Int32, Integer, UInt8
from torch import Tensor

CODES_PER_WORD = 8
WORD_BYTES = 8
INT32_BITS = 32
MAX_BITS = 8
_SLICE_CODES = 1 << 18  # 64-bit words of a slice stay in the second-level cache: 2x faster than whole rows


def packed_columns(num_codes: int, num_bits: int) -> int:
    """Return how many int32 words hold a row of codes."""
    return -(-num_codes * num_bits // INT32_BITS)


def pack_bits(values: Integer[Tensor, "rows columns"], num_bits: int) -> UInt8[Tensor, "rows bytes"]:
    """Return each row as a bit stream of ceil(columns * num_bits / 8) bytes.

    Args:
        values: Unsigned values below 2**num_bits, any integer dtype. Not modified.
        num_bits: 1 to 8.
    Raises:
        ValueError: `num_bits` is out of range, or a value does not fit into it.
    """
    _check_bits(num_bits)
    if values.numel() and (int(values.min()) < 0 or int(values.max()) >= 1 << num_bits):
        raise ValueError(f"codes must lie in 0 .. {(1 << num_bits) - 1} to be packed in {num_bits} bits")
    rows, columns = values.shape
    row_bytes = -(-columns * num_bits // 8)
    packed = torch.empty((rows, row_bytes), dtype=torch.uint8, device=values.device)
    for start, stop in _slices(rows, columns):
        packed[start:stop] = _pack_slice(values[start:stop], num_bits)[:, :row_bytes]
    return packed


def unpack_bits(packed: UInt8[Tensor, "rows bytes"], num_bits: int, num_codes: int) -> UInt8[Tensor, "rows codes"]:
    """Return the unsigned values of `pack_bits`.

    Raises:
        ValueError: `num_bits` is out of range, or the rows are too short for `num_codes`.
    """
    _check_bits(num_bits)
    rows, row_bytes = packed.shape
    if row_bytes * 8 < num_codes * num_bits:
        raise ValueError(f"{row_bytes} bytes a row cannot hold {num_codes} codes of {num_bits} bits")
    values = torch.empty((rows, num_codes), dtype=torch.uint8, device=packed.device)
    for start, stop in _slices(rows, num_codes):
        values[start:stop] = _unpack_slice(packed[start:stop], num_bits, num_codes)
    return values


def pack_int32(codes: Int[Tensor, "out in"], num_bits: int) -> Int32[Tensor, "out words"]:
    """Return signed codes, offset by 2**(num_bits-1), as int32 words along the input dimension.

    This is `weight_packed` of compressed-tensors' pack-quantized format.

    Raises:
        ValueError: `num_bits` is out of range, or a code does not fit into it.
    """
    _check_bits(num_bits)
    stream = pack_bits(codes.to(torch.int16) + (1 << (num_bits - 1)), num_bits)
    width = packed_columns(codes.shape[1], num_bits) * (INT32_BITS // 8)
    padded = torch.nn.functional.pad(stream, (0, width - stream.shape[1]))
    return padded.contiguous().view(torch.int32)


def unpack_int32(packed: Int32[Tensor, "out words"], num_bits: int, in_features: int) -> Int8[Tensor, "out in"]:
    """Return the signed int8 codes of `pack_int32`.

    Raises:
        ValueError: `num_bits` is out of range, or the rows are too short for `in_features`.
    """
    # Flat first: a transposed matrix of one column counts as contiguous, and yet cannot be viewed as bytes.
    stream = packed.flatten().view(torch.uint8).reshape(len(packed), -1)
    values = unpack_bits(stream, num_bits, in_features)
    # 0 .. 255 minus 128 wraps to the signed code in uint8 arithmetic, so no wider copy is needed.
    return (values - (1 << (num_bits - 1))).view(torch.int8)


def _check_bits(num_bits: int) -> None:
    if not 1 <= num_bits <= MAX_BITS:
        raise ValueError(f"num_bits must be 1 to {MAX_BITS}, got {num_bits}")


def _slices(rows: int, columns: int) -> list[tuple[int, int]]:
    step = max(1, _SLICE_CODES // max(1, columns))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def _pack_slice(values: Integer[Tensor, "rows columns"], num_bits: int) -> UInt8[Tensor, "rows bytes"]:
    narrow = values.to(torch.uint8)
    if num_bits == MAX_BITS:
        return narrow
    padding = -values.shape[1] % CODES_PER_WORD
    merged = torch.nn.functional.pad(narrow, (0, padding))
    width = num_bits
    for dtype in (torch.int16, torch.int32, torch.int64):
        wide = merged.to(dtype)
        merged = wide[:, ::2] | (wide[:, 1::2] << width)
        width *= 2
    low_bytes = merged.unsqueeze(-1).view(torch.uint8)[..., :num_bits]
    return low_bytes.reshape(values.shape[0], -1)


def _unpack_slice(packed: UInt8[Tensor, "rows bytes"], num_bits: int, num_codes: int) -> UInt8[Tensor, "rows codes"]:
    if num_bits == MAX_BITS:
        return packed[:, :num_codes]
    rows = packed.shape[0]
    words = -(-num_codes // CODES_PER_WORD)
    row = torch.nn.functional.pad(packed, (0, max(0, words * num_bits - packed.shape[1])))[:, : words * num_bits]
    low_bytes = row.reshape(rows, words, num_bits)
    split = torch.nn.functional.pad(low_bytes, (0, WORD_BYTES - num_bits)).view(torch.int64).squeeze(-1)
    width = num_bits * CODES_PER_WORD
    for dtype in (torch.int32, torch.int16, torch.uint8):
        width //= 2
        split = torch.stack((split & ((1 << width) - 1), split >> width), dim=-1).to(dtype).reshape(rows, -1)
    return split[:, :num_codes]
