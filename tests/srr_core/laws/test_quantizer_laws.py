"""What every quantizer in the table obeys. A new row is met with its defaults; variants of it are rows of CASES."""

import pytest
import torch

from srr_core.errors import NonFiniteWeightError
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import QuantizerBase
from tests.srr_core.laws.cases import CASES, every_quantizer, gaussian, quantized, statistics

SHAPES = [(24, 64), (7, 40), (1, 33), (5, 1), (1, 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def test_every_quantizer_of_the_table_has_a_case() -> None:
    assert {type(spec) for spec in CASES} == set(QUANTIZERS)


@every_quantizer
@every_shape
def test_the_shape_is_kept_and_every_value_is_finite(spec: QuantizerBase, shape: tuple[int, int]) -> None:
    result = quantized(spec, gaussian(*shape))

    values = result.dequantize()

    assert result.shape == shape
    assert values.shape == shape
    assert values.dtype == torch.float32
    assert bool(torch.isfinite(values).all())


@every_quantizer
def test_the_error_is_smaller_than_the_weight(spec: QuantizerBase) -> None:
    weight = gaussian(24, 64)

    assert float((quantized(spec, weight).dequantize() - weight).norm()) < 0.75 * float(weight.norm())


@every_quantizer
@every_shape
def test_zero_in_zero_out(spec: QuantizerBase, shape: tuple[int, int]) -> None:
    assert torch.equal(quantized(spec, torch.zeros(shape)).dequantize(), torch.zeros(shape))


@every_quantizer
def test_the_input_is_not_modified(spec: QuantizerBase) -> None:
    weight = gaussian(24, 64)
    before = weight.clone()
    seen = statistics(64)
    autocorrelation = seen.autocorrelation.clone()

    QUANTIZERS.build(spec).quantize(weight, seen)

    assert torch.equal(weight, before)
    assert torch.equal(seen.autocorrelation, autocorrelation)


@every_quantizer
def test_the_same_seed_gives_the_same_bits_whatever_came_before(spec: QuantizerBase) -> None:
    used = QUANTIZERS.build(spec)
    weight = gaussian(24, 64)
    used.quantize(gaussian(8, 64, seed=9), statistics(64), seed=5)

    first = used.quantize(weight, statistics(64), seed=3).tensors()
    second = QUANTIZERS.build(spec).quantize(weight, statistics(64), seed=3).tensors()

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_quantizer
def test_dequantizing_twice_gives_the_same_bits(spec: QuantizerBase) -> None:
    result = quantized(spec, gaussian(24, 64))

    assert torch.equal(result.dequantize(), result.dequantize())


@every_quantizer
def test_float64_is_rounded_as_its_float32(spec: QuantizerBase) -> None:
    weight = gaussian(24, 64)

    assert torch.equal(quantized(spec, weight.double()).dequantize(), quantized(spec, weight).dequantize())


@every_quantizer
def test_codes_take_no_more_values_than_their_bits_allow(spec: QuantizerBase) -> None:
    result = quantized(spec, gaussian(64, 64))

    codes = {name: result.tensors()[name].to(torch.int64) for name in result.code_bits()}
    levels = {name: len(torch.unique(values)) for name, values in codes.items()}

    # Fewer codes than that, on average, would be a narrower format.
    assert all(levels[name] <= 2**bits for name, bits in result.code_bits().items())
    assert all(levels[name] > min(codes[name].numel(), 2**bits) / 2 for name, bits in result.code_bits().items())


@every_quantizer
def test_the_tensors_of_codes_hold_the_bits_the_specification_says(spec: QuantizerBase) -> None:
    weight = gaussian(24, 64)
    result = quantized(spec, weight)

    bits = sum(result.tensors()[name].numel() * bits for name, bits in result.code_bits().items())

    assert bits == weight.numel() * spec.num_bits


@every_quantizer
def test_a_weight_that_is_not_finite_is_refused(spec: QuantizerBase) -> None:
    weight = gaussian(4, 32)
    weight[2, 3] = float("nan")

    with pytest.raises(NonFiniteWeightError, match="1 of 128"):
        quantized(spec, weight)


@every_quantizer
@pytest.mark.parametrize("size", [1e-30, 1e20])
def test_weights_of_any_size_lose_the_same_share_or_a_note_says_why_not(spec: QuantizerBase, size: float) -> None:
    weight = gaussian(24, 64)
    result = quantized(spec, weight * size)

    share = (result.dequantize().double() / size - weight).norm() / weight.norm()
    usual = (quantized(spec, weight).dequantize() - weight).norm() / weight.norm()

    assert share < 1.25 * usual or result.notes
