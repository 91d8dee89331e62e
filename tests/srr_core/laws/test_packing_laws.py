"""Pack then unpack is exact for every width and size, and equals what the official packer writes."""

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from hypothesis import given, settings
from hypothesis import strategies as st

from srr_core.formats.packing import pack_bits, pack_int32, packed_columns, unpack_bits, unpack_int32

WIDTHS = st.integers(min_value=1, max_value=8)
SIZES = st.integers(min_value=1, max_value=130)


def signed_codes(num_bits: int, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    half = 1 << (num_bits - 1)
    return torch.randint(-half, half, (rows, columns), generator=generator).to(torch.int8)


@settings(max_examples=150, deadline=None)
@given(num_bits=WIDTHS, columns=SIZES, rows=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_int32_stream_is_exact_and_official(num_bits, columns, rows, seed):
    codes = signed_codes(num_bits, rows, columns, seed)
    packed = pack_int32(codes, num_bits)
    assert packed.shape == (rows, packed_columns(columns, num_bits))
    assert torch.equal(packed, pack_to_int32(codes, num_bits))
    assert torch.equal(unpack_int32(packed, num_bits, columns), codes)
    assert torch.equal(unpack_from_int32(packed, num_bits, torch.Size(codes.shape)), codes)


@settings(max_examples=100, deadline=None)
@given(num_bits=WIDTHS, columns=SIZES, seed=st.integers(0, 2**31))
def test_byte_stream_is_exact_and_as_small_as_it_can_be(num_bits, columns, seed):
    values = signed_codes(num_bits, 3, columns, seed).to(torch.int16) + (1 << (num_bits - 1))
    packed = pack_bits(values, num_bits)
    assert packed.shape == (3, -(-columns * num_bits // 8))
    assert torch.equal(unpack_bits(packed, num_bits, columns).to(torch.int16), values)


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_rows_longer_than_a_slice_are_packed_the_same(num_bits):
    codes = signed_codes(num_bits, 5, 70_001, seed=7)
    assert torch.equal(pack_int32(codes, num_bits), pack_to_int32(codes, num_bits))
    assert torch.equal(unpack_int32(pack_int32(codes, num_bits), num_bits, 70_001), codes)


def test_first_code_is_in_the_lowest_bits():
    packed = pack_int32(torch.tensor([[-4, 3, -4, -4, -4, -4, -4, -4, -4, -4, 1]], dtype=torch.int8), 3)
    # Offset codes are 0, 7, 0 ..., 5: bits 3 to 5, then bits 30 and 31, then bit 0 of the next word.
    assert packed.tolist() == [[(7 << 3) | (1 << 30), 1]]


def test_codes_wider_than_the_stream_are_refused():
    with pytest.raises(ValueError, match=r"0 \.\. 7 to be packed in 3 bits"):
        pack_int32(torch.tensor([[4]], dtype=torch.int8), 3)


def test_rows_too_short_for_their_codes_are_refused():
    with pytest.raises(ValueError, match="cannot hold 9 codes of 8 bits"):
        unpack_bits(torch.zeros(2, 8, dtype=torch.uint8), 8, 9)


@pytest.mark.parametrize("num_bits", [0, 9])
def test_widths_out_of_range_are_refused(num_bits):
    with pytest.raises(ValueError, match="1 to 8"):
        pack_bits(torch.zeros(1, 8, dtype=torch.uint8), num_bits)


def test_words_of_one_column_are_read_whichever_way_they_lie():
    codes = torch.tensor([[-2, 1, 0], [1, -1, -2]], dtype=torch.int8)
    lying = pack_int32(codes, 2).t().contiguous()  # one row, as zero points of few outputs are stored

    assert torch.equal(unpack_int32(lying.t(), 2, 3), codes)


@pytest.mark.parametrize("num_bits", [0, 9])
def test_a_number_of_bits_that_no_word_holds_is_refused(num_bits):
    with pytest.raises(ValueError, match="bits"):
        pack_int32(torch.zeros(1, 8, dtype=torch.int8), num_bits)
