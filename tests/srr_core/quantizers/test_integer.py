"""Integer groups against the published error anchors, and the exactness of what is stored."""

import pytest
import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import IntegerSpec
from srr_core.types import IntegerTensor

ANCHOR_TOLERANCE = 0.01
HALF_DIGIT = 0.00005
"""The published anchors are printed to four digits."""


def rounded(weight: Tensor, **options: object) -> IntegerTensor:
    quantized = QUANTIZERS.build(IntegerSpec.model_validate(options)).quantize(weight)
    assert isinstance(quantized, IntegerTensor)
    return quantized


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.02


def relative_error(weight: Tensor, **options: object) -> float:
    return float((rounded(weight, **options).dequantize() - weight).square().sum() / weight.square().sum())


@pytest.mark.parametrize(
    ("num_bits", "group_size", "expected"),
    [
        (4, 32, 0.0065),
        (4, 64, 0.0083),
        (4, 128, 0.0101),
        (3, 32, 0.0300),
        (3, 64, 0.0382),
        (3, 128, 0.0466),
        (2, 32, 0.165),
        (2, 64, 0.209),
        (2, 128, 0.254),
    ],
)
def test_error_on_gaussian_weights_is_the_published_one(num_bits: int, group_size: int, expected: float) -> None:
    error = relative_error(gaussian(512, 4096), num_bits=num_bits, group_size=group_size)

    assert error == pytest.approx(expected, rel=ANCHOR_TOLERANCE, abs=HALF_DIGIT)


@pytest.mark.parametrize(("num_bits", "expected"), [(4, 0.0123), (3, 0.0567), (2, 0.304)])
def test_error_of_symmetric_groups_is_the_published_one(num_bits: int, expected: float) -> None:
    error = relative_error(gaussian(512, 4096), num_bits=num_bits, symmetric=True)

    assert error == pytest.approx(expected, rel=ANCHOR_TOLERANCE, abs=HALF_DIGIT)


def test_hand_example() -> None:
    quantized = rounded(torch.tensor([[-1.0, 0.0, 0.4, 2.0]]), num_bits=2, group_size=16)

    assert quantized.codes.tolist() == [[0, 1, 1, 3]]
    assert quantized.scale.tolist() == [[1.0]]
    assert quantized.zero_point is not None
    assert quantized.zero_point.tolist() == [[1]]
    assert quantized.dequantize().tolist() == [[-1.0, 0.0, 0.0, 2.0]]


def test_a_symmetric_group_without_negative_weights_keeps_its_range() -> None:
    quantized = rounded(torch.tensor([[0.0, 3.5, 7.0]]), num_bits=4, symmetric=True)

    assert quantized.scale.tolist() == [[float(torch.tensor(14 / 15, dtype=torch.float16))]]
    assert quantized.codes.tolist() == [[0, 4, 7]]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("search", ["none", "mse"])
def test_steps_are_exact_in_float16(symmetric: bool, search: str) -> None:
    scale = rounded(gaussian(16, 256), num_bits=3, symmetric=symmetric, search=search).scale

    assert torch.equal(scale.to(torch.float16).to(torch.float32), scale)


@pytest.mark.parametrize("num_bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [False, True])
def test_codes_fill_the_width_and_no_more(num_bits: int, symmetric: bool) -> None:
    codes = rounded(gaussian(64, 256), num_bits=num_bits, group_size=32, symmetric=symmetric).codes
    lowest = -(2 ** (num_bits - 1)) if symmetric else 0

    assert int(codes.min()) == lowest
    assert int(codes.max()) == lowest + 2**num_bits - 1


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_search_lowers_the_error_norm_it_minimizes_in_every_group(symmetric: bool) -> None:
    weight = gaussian(64, 256)

    plain = rounded(weight, num_bits=3, group_size=64, symmetric=symmetric).dequantize()
    searched = rounded(weight, num_bits=3, group_size=64, symmetric=symmetric, search="mse").dequantize()
    before = (plain - weight).abs().pow(2.4).reshape(64, 4, 64).sum(-1)
    after = (searched - weight).abs().pow(2.4).reshape(64, 4, 64).sum(-1)

    # Sums of 64 float32 terms, computed in another order than inside.
    assert bool((after <= before * (1 + 1e-5)).all())
    assert float(after.sum()) < 0.9 * float(before.sum())


def test_weights_below_the_smallest_float16_step_are_reported() -> None:
    quantized = rounded(torch.full((2, 128), 1e-9), num_bits=4)

    assert quantized.notes == ("the step of 2 of 2 groups was clamped to the range of float16",)
    assert torch.equal(quantized.dequantize(), torch.zeros(2, 128))


def test_weights_beyond_the_largest_float16_step_saturate_and_are_reported() -> None:
    quantized = rounded(torch.full((1, 128), 1e30), num_bits=4)

    assert quantized.notes == ("the step of 1 of 1 groups was clamped to the range of float16",)
    assert torch.equal(quantized.dequantize(), torch.full((1, 128), 15 * 65504.0))


def test_ordinary_weights_need_no_note() -> None:
    assert rounded(gaussian(16, 256), num_bits=4).notes == ()


def test_a_group_of_zeros_has_the_step_of_the_range_from_minus_one_to_one() -> None:
    quantized = rounded(torch.zeros(2, 16), num_bits=4, group_size=16)

    assert quantized.scale.tolist() == [[float(torch.tensor(2 / 15, dtype=torch.float16))]] * 2
    assert bool((quantized.dequantize() == 0).all())


def test_the_search_finds_the_best_of_the_references_factors() -> None:
    tails = gaussian(512, 128) / torch.rand(512, 128, generator=torch.Generator().manual_seed(1)).square()
    tails *= 1000 / tails.abs().amax(1, keepdim=True)
    found = rounded(tails, num_bits=2, group_size=128, symmetric=True, search="mse").scale[:, 0]

    largest = tails.double().abs().amax(1)

    def error(step: Tensor) -> Tensor:
        rest = (tails.double() / step[:, None]).round().clamp(-2, 1) * step[:, None] - tails.double()
        return (rest / largest[:, None]).abs().pow(2.4).sum(1)

    best = torch.stack([error((largest * (1 - i / 100) * 2 / 3).half().double()) for i in range(80)]).amin(0)
    assert bool((error(found.double()) <= 1.001 * best).all())
