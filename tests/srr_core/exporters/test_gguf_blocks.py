"""Every block type is read back by the official decoder, exactly or with every rounded weight counted."""

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from srr_core.errors import ExportError
from srr_core.exporters.gguf_blocks import SUBBLOCK, SUPERBLOCK
from srr_core.exporters.gguf_naming import FAMILIES
from srr_core.exporters.gguf_rounding import round_to, rounding_error, type_for
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
    [
        MXIntSpec(num_bits=8, block_size=16),
        IntegerSpec(num_bits=8, group_size=32, symmetric=False),
        IntegerSpec(num_bits=4, group_size=16, symmetric=False),
    ],
    ids=["groups of 16", "zero points of 8 bits", "zero points of groups of 16"],
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


@pytest.mark.parametrize(("num_bits", "name"), [(2, "Q4_1"), (3, "Q4_1"), (4, "Q4_1"), (5, "Q5_1")])
@pytest.mark.parametrize("group_size", [32, 128])
def test_zero_points_lose_no_more_than_the_rounding_of_their_offsets(num_bits, name, group_size):
    spec = IntegerSpec(num_bits=num_bits, group_size=group_size, symmetric=False)
    weight = torch.randn(24, 512, generator=torch.Generator().manual_seed(2)) * 0.02 + 0.01
    quantized = QUANTIZERS.build(spec).quantize(weight)
    encoded = encode("m", quantized, spec.uniform_grid, allow_inexact=False)
    decoded = torch.from_numpy(dequantize(encoded.data, encoded.block_type))
    steps = ((decoded - quantized.dequantize()).abs() / quantized.scale.repeat_interleave(group_size, 1)).max()
    assert encoded.block_type.name == name
    # An offset is at most 2**bits - 1 steps, and fp16 keeps eleven bits of it.
    assert float(steps) <= (2**num_bits - 1) * 2.0**-11 * 1.01
    assert encoded.offset_error == pytest.approx(float(steps), rel=1e-4)


def test_offsets_that_fp16_does_not_hold_are_refused():
    spec = IntegerSpec(num_bits=4, group_size=32, symmetric=False)
    huge = torch.randn(4, 64, generator=torch.Generator().manual_seed(2)) * 5e4
    quantized = QUANTIZERS.build(spec).quantize(huge)
    with pytest.raises(ExportError, match=r"would change a weight by .* of a step; set merged=q6_k"):
        encode("m", quantized, spec.uniform_grid, allow_inexact=True)


@pytest.mark.parametrize(("name", "largest"), [("Q4_K", 0.09), ("Q6_K", 0.02), ("Q8_0", 0.006)])
def test_rounding_changes_gaussian_weights_as_little_as_its_bits_allow(name, largest):
    weight = torch.randn(64, 1024, generator=torch.Generator().manual_seed(3)).numpy()
    block_type = GGMLQuantizationType[name]
    changed, total = rounding_error(weight, round_to(weight, block_type), block_type)
    assert 0 < (changed / total) ** 0.5 < largest


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
def test_rounding_holds_hostile_weights_within_a_step_of_their_sub_block(name):
    weight = hostile_weight().numpy()
    block_type = GGMLQuantizationType[name]
    decoded = dequantize(round_to(weight, block_type), block_type)
    size = 32 if name == "Q4_K" else 16
    peaks = abs(weight).reshape(24, -1, SUPERBLOCK).max(-1).repeat(SUPERBLOCK, axis=1)
    local = abs(weight).reshape(24, -1, size).max(-1).repeat(size, axis=1)
    levels, scales = (15, 63) if name == "Q4_K" else (32, 128)
    # Half a step, plus what rounding the sub-block's scale moves its ends by; fp16 itself adds a thousandth.
    assert (abs(decoded - weight) <= 2 * local / levels + 2 * peaks / scales * 1.001 + 1e-7).all()
    assert (decoded[3] == 0).all()


def test_rows_of_no_whole_super_blocks_are_rounded_to_eight_bits():
    assert type_for("Q6_K", 96).name == "Q8_0"
    assert type_for("Q6_K", 512).name == "Q6_K"
    assert type_for("Q8_0", 96).name == "Q8_0"
