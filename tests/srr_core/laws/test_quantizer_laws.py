"""What every quantizer in the table obeys. A new variant is a new row of CASES."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from srr_core.errors import NonFiniteWeightError
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import GPTQSpec, IntegerSpec, LearnedSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec, Spec
from srr_core.types import QuantizedTensor, Statistics

CASES: list[Spec] = [
    MXIntSpec(num_bits=3),
    MXIntSpec(num_bits=2, block_size=16, exponent="search", exponent_window=3),
    MXIntSpec(num_bits=8),
    IntegerSpec(num_bits=3, group_size=32),
    IntegerSpec(num_bits=4, group_size=16, symmetric=True, search="mse"),
    IntegerSpec(num_bits=8, group_size=64),
    NormalFloatSpec(num_bits=4, block_size=32),
    NormalFloatSpec(num_bits=2, double_quantization=False),
    GPTQSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    GPTQSpec(grid=MXIntSpec(num_bits=4), act_order=False),
    LearnedSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    LearnedSpec(grid=MXIntSpec(num_bits=4), start="gptq"),
    QuIPSharpSpec(num_bits=2, coordinate_passes=1),
    QuIPSharpSpec(num_bits=3, coordinate_passes=1),
    QuIPSharpSpec(num_bits=4, coordinate_passes=0),
]
CODE_BITS: dict[str, Callable[[Any], int]] = {
    "integer": lambda spec: spec.num_bits,
    "normal-float": lambda spec: spec.num_bits,
    "lattice": lambda _: 16,
}
SHAPES = [(24, 64), (7, 40), (1, 33), (5, 1), (1, 1)]
every_quantizer = pytest.mark.parametrize("spec", CASES, ids=repr)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics(in_features: int) -> Statistics:
    mixing = gaussian(in_features, in_features, seed=1).to(torch.float64)
    inputs = gaussian(4 * in_features, in_features, seed=2).to(torch.float64) @ mixing
    return Statistics(inputs.T @ inputs / len(inputs), inputs.abs().mean(0), len(inputs))


def quantized(spec: Spec, weight: Tensor, *, seed: int = 0) -> QuantizedTensor:
    return QUANTIZERS.build(spec).quantize(weight, statistics(weight.shape[1]), seed=seed)


def test_every_quantizer_of_the_table_has_a_case() -> None:
    assert {type(spec) for spec in CASES} == set(QUANTIZERS)


@every_quantizer
@every_shape
def test_the_shape_is_kept_and_every_value_is_finite(spec: Spec, shape: tuple[int, int]) -> None:
    result = quantized(spec, gaussian(*shape))

    values = result.dequantize()

    assert result.shape == shape
    assert values.shape == shape
    assert values.dtype == torch.float32
    assert bool(torch.isfinite(values).all())


@every_quantizer
def test_the_error_is_smaller_than_the_weight(spec: Spec) -> None:
    weight = gaussian(24, 64)

    assert float((quantized(spec, weight).dequantize() - weight).norm()) < 0.75 * float(weight.norm())


@every_quantizer
@every_shape
def test_zero_in_zero_out(spec: Spec, shape: tuple[int, int]) -> None:
    assert torch.equal(quantized(spec, torch.zeros(shape)).dequantize(), torch.zeros(shape))


@every_quantizer
def test_the_input_is_not_modified(spec: Spec) -> None:
    weight = gaussian(24, 64)
    before = weight.clone()
    seen = statistics(64)
    autocorrelation = seen.autocorrelation.clone()

    QUANTIZERS.build(spec).quantize(weight, seen)

    assert torch.equal(weight, before)
    assert torch.equal(seen.autocorrelation, autocorrelation)


@every_quantizer
def test_the_same_seed_gives_the_same_bits_whatever_came_before(spec: Spec) -> None:
    used = QUANTIZERS.build(spec)
    weight = gaussian(24, 64)
    used.quantize(gaussian(8, 64, seed=9), statistics(64), seed=5)

    first = used.quantize(weight, statistics(64), seed=3).tensors()
    second = QUANTIZERS.build(spec).quantize(weight, statistics(64), seed=3).tensors()

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_quantizer
def test_dequantizing_twice_gives_the_same_bits(spec: Spec) -> None:
    result = quantized(spec, gaussian(24, 64))

    assert torch.equal(result.dequantize(), result.dequantize())


@every_quantizer
def test_float64_is_rounded_as_its_float32(spec: Spec) -> None:
    weight = gaussian(24, 64)

    assert torch.equal(quantized(spec, weight.double()).dequantize(), quantized(spec, weight).dequantize())


@every_quantizer
def test_codes_take_no_more_values_than_their_bits_allow(spec: Spec) -> None:
    result = quantized(spec, gaussian(64, 64))

    codes = result.tensors()["codes"].to(torch.int64)
    bits_per_code = CODE_BITS[result.layout](spec)

    # Fewer codes than that, on average, would be a narrower format.
    assert len(torch.unique(codes)) <= 2**bits_per_code
    assert len(torch.unique(codes)) > min(codes.numel(), 2**bits_per_code) / 2


@every_quantizer
def test_a_weight_that_is_not_finite_is_refused(spec: Spec) -> None:
    weight = gaussian(4, 32)
    weight[2, 3] = float("nan")

    with pytest.raises(NonFiniteWeightError, match="1 of 128"):
        quantized(spec, weight)


@every_quantizer
@pytest.mark.parametrize("size", [1e-30, 1e20])
def test_weights_of_any_size_lose_the_same_share_or_a_note_says_why_not(spec: Spec, size: float) -> None:
    weight = gaussian(24, 64)
    result = quantized(spec, weight * size)

    share = (result.dequantize().double() / size - weight).norm() / weight.norm()
    usual = (quantized(spec, weight).dequantize() - weight).norm() / weight.norm()

    assert share < 1.25 * usual or result.notes
