"""Every block type is read back by the official decoder, exactly or with every rounded weight counted."""

import pytest
import torch
from gguf.quants import dequantize

from srr_core.errors import ExportError
from srr_core.exporters.gguf_blocks import SUBBLOCK, SUPERBLOCK
from srr_core.exporters.gguf_naming import FAMILIES
from srr_core.exporters.gguf_tensors import encode
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import IntegerSpec, MXIntSpec
from srr_core.recipe.gguf_types import GGUF_ARCHITECTURES, GGUF_WINDOWS, gguf_type

EXACT = [
    (MXIntSpec(num_bits=2, block_size=32), "MXFP4"),
    (MXIntSpec(num_bits=3, block_size=32), "MXFP4"),
    (MXIntSpec(num_bits=4, block_size=32), "Q4_0"),
    (MXIntSpec(num_bits=5, block_size=32), "Q5_0"),
    (MXIntSpec(num_bits=6, block_size=32), "Q8_0"),
    (MXIntSpec(num_bits=8, block_size=32), "Q8_0"),
    (MXIntSpec(num_bits=2, block_size=16, exponent_window=3), "Q2_K"),
    (MXIntSpec(num_bits=3, block_size=16, exponent_window=5), "Q3_K"),
    (MXIntSpec(num_bits=4, block_size=16, exponent_window=7), "Q6_K"),
    (MXIntSpec(num_bits=6, block_size=16, exponent_window=7), "Q6_K"),
    (IntegerSpec(num_bits=3, group_size=128, symmetric=True), "Q4_0"),
    (IntegerSpec(num_bits=4, group_size=32, symmetric=True), "Q4_0"),
    (IntegerSpec(num_bits=8, group_size=64, symmetric=True), "Q8_0"),
]


def hostile_weight():
    weight = torch.randn(24, 512, generator=torch.Generator().manual_seed(2)) * 0.02
    weight[0, :64] = 0
    weight[1, :48] *= 2.0**-12
    weight[2, 100] = 3.0
    weight[3] = 0
    return weight


@pytest.mark.parametrize(("spec", "name"), EXACT, ids=[f"{s.kind}-{s.bits_per_weight:.2f}-{n}" for s, n in EXACT])
def test_official_decoder_reads_the_same_weights(spec, name):
    quantized = QUANTIZERS.build(spec).quantize(hostile_weight())
    encoded = encode("m", quantized, spec.uniform_grid, allow_inexact=False)
    decoded = torch.from_numpy(dequantize(encoded.data, encoded.block_type))
    assert torch.equal(decoded, quantized.dequantize())
    # A quiet weight needs no window, so the smaller block may serve it; a hostile one gets the type that holds all.
    assert encoded.block_type.name == name
    assert encoded.inexact == 0


def test_three_bits_of_quiet_weights_take_the_smaller_super_block():
    spec = MXIntSpec(num_bits=3, block_size=32)
    quiet = torch.randn(8, 256, generator=torch.Generator().manual_seed(1))
    encoded = encode("m", QUANTIZERS.build(spec).quantize(quiet), spec.uniform_grid, allow_inexact=False)
    assert encoded.block_type.name == "Q3_K"


def test_roundings_are_refused_with_their_number_or_counted():
    spec = MXIntSpec(num_bits=3, block_size=16)
    quantized = QUANTIZERS.build(spec).quantize(hostile_weight())
    with pytest.raises(ExportError, match=r"would round \d+ of 12288 weights"):
        encode("m", quantized, spec.uniform_grid, allow_inexact=False)
    encoded = encode("m", quantized, spec.uniform_grid, allow_inexact=True)
    decoded = torch.from_numpy(dequantize(encoded.data, encoded.block_type))
    wrong = int((decoded != quantized.dequantize()).sum())
    assert 0 < wrong == encoded.inexact < 100


@pytest.mark.parametrize(
    "spec",
    [MXIntSpec(num_bits=8, block_size=16), IntegerSpec(num_bits=4, group_size=32, symmetric=False)],
    ids=["groups of 16", "zero points"],
)
def test_grids_no_block_type_holds_are_refused(spec):
    quantized = QUANTIZERS.build(spec).quantize(hostile_weight())
    with pytest.raises(ExportError, match="no GGUF block type takes"):
        encode("m", quantized, spec.uniform_grid, allow_inexact=True)


def spread_over(window, num_bits):
    """One super-block whose exponents spread over `window` steps, its largest codes used, on a grid of `num_bits`."""
    spec = MXIntSpec(num_bits=num_bits, block_size=SUBBLOCK)
    weight = torch.ones(1, SUPERBLOCK)
    weight[:, SUPERBLOCK // 2 :] = 2.0**-window
    largest = 2.0 ** (num_bits - 1) - 1
    weight[:, 1::2] *= -largest / 2.0 ** (num_bits - 2)
    return spec, QUANTIZERS.build(spec).quantize(weight)


def encoded_as_foretold(spec, quantized):
    grid = spec.uniform_grid
    encoded = encode("m", quantized, grid, allow_inexact=True)
    foretold = gguf_type(spec.num_bits, spec.block_size, is_power_of_two=True)
    return encoded.block_type.name == foretold and encoded.inexact == 0


@pytest.mark.parametrize(("num_bits", "window"), GGUF_WINDOWS.items())
def test_foretold_windows_are_those_the_block_types_hold(num_bits, window):
    assert encoded_as_foretold(*spread_over(window, num_bits))
    assert not encoded_as_foretold(*spread_over(window + 1, num_bits))


def test_foretold_architectures_are_those_of_the_export():
    assert set(GGUF_ARCHITECTURES) == set(FAMILIES)
