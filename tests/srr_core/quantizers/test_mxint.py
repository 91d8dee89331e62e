"""MXINT against the published error anchors, a hand example, and the symmetries of the format."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srr_core.errors import NonFiniteWeightError
from srr_core.quantizers import QUANTIZERS
from srr_core.quantizers.mxint import WINDOW_INPUTS
from srr_core.recipe import MXIntSpec
from srr_core.types import IntegerTensor

ANCHOR_TOLERANCE = 0.01
"""Of the published table; the sampling error of 2**21 weights is below half of it."""


def rounded(weight: Tensor, **options: object) -> IntegerTensor:
    quantized = QUANTIZERS.build(MXIntSpec.model_validate(options)).quantize(weight)
    assert isinstance(quantized, IntegerTensor)
    return quantized


def gaussian(std: float, *, rows: int = 512, columns: int = 4096) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * std


def laplace(std: float) -> Tensor:
    uniform = torch.rand(512, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    return (-uniform.sign() * torch.log1p(-2 * uniform.abs())).to(torch.float32) * std / 2**0.5


def relative_error(weight: Tensor, **options: object) -> float:
    return float((rounded(weight, **options).dequantize() - weight).square().sum() / weight.square().sum())


@pytest.mark.parametrize(
    ("num_bits", "block_size", "expected"),
    [(2, 16, 0.2141), (2, 32, 0.2408), (3, 16, 0.0515), (3, 32, 0.0597), (4, 16, 0.0127), (4, 32, 0.0148)],
)
def test_error_on_gaussian_weights_of_std_002_is_the_published_one(
    num_bits: int, block_size: int, expected: float
) -> None:
    error = relative_error(gaussian(0.02), num_bits=num_bits, block_size=block_size)

    assert error == pytest.approx(expected, rel=ANCHOR_TOLERANCE)


@pytest.mark.parametrize(
    ("num_bits", "block_size", "expected"),
    [(2, 16, 0.2321), (2, 32, 0.2862), (3, 16, 0.0557), (3, 32, 0.0707), (4, 16, 0.0137), (4, 32, 0.0176)],
)
def test_error_on_gaussian_weights_of_std_1_is_the_published_one(
    num_bits: int, block_size: int, expected: float
) -> None:
    error = relative_error(gaussian(1.0), num_bits=num_bits, block_size=block_size)

    assert error == pytest.approx(expected, rel=ANCHOR_TOLERANCE)


@pytest.mark.parametrize(
    ("num_bits", "block_size", "expected"),
    [(2, 16, 0.2455), (2, 32, 0.305), (3, 16, 0.0698), (3, 32, 0.0933), (4, 16, 0.0182), (4, 32, 0.0249)],
)
def test_error_on_laplace_weights_is_the_published_one(num_bits: int, block_size: int, expected: float) -> None:
    error = relative_error(laplace(1.0), num_bits=num_bits, block_size=block_size)

    # The table gives +-1 % over the position of the standard deviation in its octave, on top of ours.
    assert error == pytest.approx(expected, rel=2 * ANCHOR_TOLERANCE)


def test_eight_bits_leave_less_than_one_ten_thousandth() -> None:
    assert relative_error(gaussian(0.02), num_bits=8) == pytest.approx(6e-5, rel=0.1)


@pytest.mark.parametrize(
    ("num_bits", "block_size", "expected"), [(2, 16, 0.1885), (2, 32, 0.1992), (3, 32, 0.0504), (4, 32, 0.0136)]
)
def test_searching_the_exponent_lowers_the_error_to_the_published_octave_mean(
    num_bits: int, block_size: int, expected: float
) -> None:
    octave = torch.cat([gaussian(2 ** (step / 8), rows=64) for step in range(8)])
    total = torch.stack(
        [
            (rounded(part, num_bits=num_bits, block_size=block_size, exponent="search").dequantize() - part)
            .square()
            .sum()
            / part.square().sum()
            for part in torch.split(octave, 64)
        ]
    )

    assert float(total.mean()) == pytest.approx(expected, rel=ANCHOR_TOLERANCE)


def test_hand_example() -> None:
    weight = torch.tensor([[1.0, -0.25, 0.75, 1.9]])

    quantized = rounded(weight, num_bits=3)

    assert quantized.codes.tolist() == [[2, 0, 2, 3]]
    assert quantized.scale.tolist() == [[0.5]]
    assert quantized.dequantize().tolist() == [[1.0, 0.0, 1.0, 1.5]]


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_codes_are_symmetric_and_fill_the_width(num_bits: int) -> None:
    codes = rounded(gaussian(1.0, rows=64), num_bits=num_bits).codes

    assert (int(codes.min()), int(codes.max())) == (1 - 2 ** (num_bits - 1), 2 ** (num_bits - 1) - 1)


@pytest.mark.parametrize("exponent", ["max", "search"])
@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
def test_rounding_twice_changes_nothing(num_bits: int, exponent: str) -> None:
    once = rounded(gaussian(0.3, rows=64), num_bits=num_bits, exponent=exponent).dequantize()

    assert torch.equal(rounded(once, num_bits=num_bits).dequantize(), once)


@settings(deadline=None)
@given(power=st.integers(-80, 80), exponent=st.sampled_from(["max", "search"]), num_bits=st.integers(2, 8))
def test_powers_of_two_and_signs_pass_through(power: int, exponent: str, num_bits: int) -> None:
    weight = gaussian(1.0, rows=4, columns=64)
    factor = -(2.0**power)

    reference = rounded(weight, num_bits=num_bits, exponent=exponent)
    scaled = rounded(weight * factor, num_bits=num_bits, exponent=exponent)

    assert torch.equal(scaled.codes, -reference.codes)
    assert torch.equal(scaled.dequantize(), reference.dequantize() * factor)


@pytest.mark.parametrize("columns", [1, 31, 33, 70])
def test_a_short_last_block_is_rounded_as_if_filled_with_zeros(columns: int) -> None:
    weight = gaussian(1.0, rows=8, columns=columns)
    filled = torch.nn.functional.pad(weight, (0, -columns % 32))

    quantized = rounded(weight)

    assert quantized.scale.shape == (8, -(-columns // 32))
    assert torch.equal(quantized.dequantize(), rounded(filled).dequantize()[:, :columns])


def test_a_block_of_zeros_gives_zeros_and_the_smallest_exponent() -> None:
    quantized = rounded(torch.zeros(2, 64), num_bits=3)

    assert torch.equal(quantized.dequantize(), torch.zeros(2, 64))
    assert torch.equal(quantized.scale, torch.full((2, 2), 2.0**-127))


def test_subnormal_weights_count_as_zero() -> None:
    weight = torch.tensor([[2.0**-126, 2.0**-127, -(2.0**-130)]])

    assert rounded(weight, num_bits=8).codes.tolist() == [[64, 0, 0]]


def test_the_largest_weights_of_float32_stay_finite() -> None:
    weight = torch.full((1, 32), torch.finfo(torch.float32).max)

    assert torch.equal(rounded(weight, num_bits=3).dequantize(), torch.full((1, 32), 1.5 * 2.0**127))


@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
def test_values_and_steps_are_exact_in_bfloat16(num_bits: int) -> None:
    quantized = rounded(gaussian(0.02, rows=64), num_bits=num_bits)
    values = quantized.dequantize()

    assert torch.equal(values.to(torch.bfloat16).to(torch.float32), values)
    assert torch.equal(quantized.scale.to(torch.bfloat16).to(torch.float32), quantized.scale)


@pytest.mark.parametrize(("block_size", "window"), [(16, 3), (32, 5), (32, 0)])
def test_the_window_bounds_the_spread_of_exponents_in_256_inputs(block_size: int, window: int) -> None:
    scales = torch.exp2(torch.arange(0, -20, -1, dtype=torch.float32)).repeat_interleave(32)
    weight = gaussian(1.0, rows=16, columns=640) * scales

    steps = rounded(weight, block_size=block_size, exponent_window=window).scale
    free = rounded(weight, block_size=block_size).scale
    blocks = WINDOW_INPUTS // block_size
    spread = [part.amax(1) / part.amin(1) for part in torch.split(steps, blocks, dim=1)]

    assert float(torch.stack(spread).max()) == 2.0**window
    assert bool((steps >= free).all())
    assert torch.equal(steps[:, :blocks].amax(1), free[:, :blocks].amax(1))


def test_a_window_wider_than_the_spread_changes_nothing() -> None:
    weight = gaussian(1.0, rows=16, columns=512)

    assert torch.equal(rounded(weight, exponent_window=15).scale, rounded(weight).scale)


def test_chunks_of_rows_do_not_change_a_bit() -> None:
    weight = gaussian(1.0, rows=512, columns=4096)

    whole = rounded(weight, exponent="search")
    last = rounded(weight[-1:], exponent="search")

    assert torch.equal(whole.codes[-1:], last.codes)
    assert torch.equal(whole.scale[-1:], last.scale)


def test_a_weight_that_is_not_contiguous_is_accepted() -> None:
    weight = gaussian(1.0, rows=64, columns=32)

    assert torch.equal(rounded(weight.T).codes, rounded(weight.T.contiguous()).codes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_refused_with_the_count(value: float) -> None:
    weight = torch.zeros(2, 32)
    weight[1, 5] = value

    with pytest.raises(NonFiniteWeightError, match="1 of 64 weights"):
        rounded(weight)


def test_an_empty_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        rounded(torch.zeros(0, 32))


def test_where_both_exponents_are_exact_the_search_keeps_that_of_the_largest_magnitude() -> None:
    weight = torch.tensor([[0.0, 0.25, -0.5, 0.75] * 4])

    assert torch.equal(rounded(weight, num_bits=4, block_size=16, exponent="search").scale, torch.tensor([[0.125]]))


def test_a_window_holds_inside_the_inputs_that_share_a_super_block() -> None:
    weight = torch.full((1, 512), 2.0**-10)
    weight[0, 0] = 1.0

    scale = rounded(weight, num_bits=2, block_size=16, exponent_window=3).scale[0]

    assert set(scale[1:16].tolist()) == {2.0**-3}
    assert set(scale[16:].tolist()) == {2.0**-10}
