"""What the scalar grids obey at any shape and size of weight, found by hypothesis."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.quantizers.normal_float import Magnitudes, NormalFloatTensor, normal_float_levels
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec
from srr_core.types import IntegerTensor, Statistics

shapes = st.tuples(st.integers(1, 9), st.integers(1, 140))
seeds = st.integers(0, 2**31)
no_deadline = settings(deadline=None, max_examples=40)
"""Under type checks and on a busy machine the first call takes seconds."""


def heavy_tailed(shape: tuple[int, int], seed: int, power: int) -> Tensor:
    """Return weights spread over several powers of two, with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) ** 3 * 2.0**power
    return weight * (torch.rand(shape, generator=generator) > 0.1)


def per_input(parameters: Tensor, quantized: IntegerTensor) -> Tensor:
    return parameters.repeat_interleave(quantized.group_size, 1)[:, : quantized.shape[1]]


mxint_specs = st.builds(
    MXIntSpec,
    num_bits=st.integers(2, 8),
    block_size=st.sampled_from([16, 32]),
    exponent=st.sampled_from(["max", "search"]),
    exponent_window=st.none() | st.integers(0, 15),
)
integer_specs = st.builds(
    IntegerSpec,
    num_bits=st.integers(2, 8),
    group_size=st.sampled_from([16, 32, 64, 128]),
    symmetric=st.booleans(),
)
normal_float_specs = st.builds(
    NormalFloatSpec,
    num_bits=st.sampled_from([2, 3, 4]),
    block_size=st.sampled_from([32, 64, 128]),
    double_quantization=st.booleans(),
)


@no_deadline
@given(spec=mxint_specs, shape=shapes, seed=seeds, power=st.integers(-60, 60))
def test_mxint_rounds_by_half_a_step_or_saturates(
    spec: MXIntSpec, shape: tuple[int, int], seed: int, power: int
) -> None:
    weight = heavy_tailed(shape, seed, power)

    quantized = QUANTIZERS.build(spec).quantize(weight)
    assert isinstance(quantized, IntegerTensor)
    values, step = quantized.dequantize(), per_input(quantized.scale, quantized)
    highest = 2 ** (spec.num_bits - 1) - 1

    is_saturated = weight.abs() > highest * step
    assert bool(((values - weight).abs() <= 0.5 * step)[~is_saturated].all())
    assert torch.equal(values[is_saturated], (weight.sign() * highest * step)[is_saturated])


@no_deadline
@given(spec=mxint_specs, shape=shapes, seed=seeds, power=st.integers(-60, 60))
def test_mxint_is_exact_in_bfloat16(spec: MXIntSpec, shape: tuple[int, int], seed: int, power: int) -> None:
    quantized = QUANTIZERS.build(spec).quantize(heavy_tailed(shape, seed, power))
    assert isinstance(quantized, IntegerTensor)
    mantissa, _ = torch.frexp(quantized.scale)

    assert torch.equal(mantissa, torch.full_like(mantissa, 0.5))
    assert torch.equal(quantized.dequantize().bfloat16().float(), quantized.dequantize())
    assert torch.equal(quantized.scale.bfloat16().float(), quantized.scale)


@no_deadline
@given(spec=integer_specs, shape=shapes, seed=seeds, power=st.integers(-4, 6))
def test_integers_err_by_little_more_than_a_step(
    spec: IntegerSpec, shape: tuple[int, int], seed: int, power: int
) -> None:
    weight = heavy_tailed(shape, seed, power)

    quantized = QUANTIZERS.build(spec).quantize(weight)
    assert isinstance(quantized, IntegerTensor)
    error = (quantized.dequantize() - weight).abs() / per_input(quantized.scale, quantized)

    # Half a step for the value, half for the zero point, and what rounding the step to fp16 moves the end of the
    # range: 2**num_bits steps times half a unit, which is 2**-11 or, for a subnormal step s, 2**-25 / s.
    unit = torch.maximum(torch.tensor(2.0**-11), 2.0**-25 / per_input(quantized.scale, quantized))
    assert bool((error <= 1.0 + 2**spec.num_bits * unit + 1e-4).all())
    assert torch.equal(quantized.scale.half().float(), quantized.scale)


@no_deadline
@given(spec=integer_specs, shape=shapes, seed=seeds)
def test_integers_keep_zero_exactly(spec: IntegerSpec, shape: tuple[int, int], seed: int) -> None:
    weight = heavy_tailed(shape, seed, 0)

    values = QUANTIZERS.build(spec).quantize(weight).dequantize()

    assert torch.equal(values[weight == 0], weight[weight == 0])


@no_deadline
@given(spec=normal_float_specs, shape=shapes, seed=seeds, power=st.integers(-60, 60))
def test_normal_float_errs_by_half_a_gap_of_its_stored_magnitude(
    spec: NormalFloatSpec, shape: tuple[int, int], seed: int, power: int
) -> None:
    weight = heavy_tailed(shape, seed, power)

    quantized = QUANTIZERS.build(spec).quantize(weight)
    assert isinstance(quantized, NormalFloatTensor)
    magnitudes = quantized.magnitudes
    stored = magnitudes.values() if isinstance(magnitudes, Magnitudes) else magnitudes
    stored = stored.repeat_interleave(spec.block_size)[: weight.numel()].view(shape)
    levels = torch.tensor(normal_float_levels(spec.num_bits))
    gap = float((levels[1:] - levels[:-1]).max())
    error = (quantized.dequantize() - weight).abs()

    is_inside = weight.abs() <= stored
    assert bool((error[is_inside] <= (gap / 2 + 1e-6) * stored[is_inside]).all())
    assert bool(torch.isfinite(error).all())


@no_deadline
@given(grid=mxint_specs | integer_specs, shape=shapes, seed=seeds, act_order=st.booleans(), tokens=st.integers(1, 200))
def test_gptq_stays_on_its_grid_whatever_was_seen(
    grid: MXIntSpec | IntegerSpec, shape: tuple[int, int], seed: int, act_order: bool, tokens: int
) -> None:
    weight = heavy_tailed(shape, seed, 0)
    inputs = torch.randn(tokens, shape[1], generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    seen = Statistics(inputs.T @ inputs / tokens, inputs.abs().mean(0), tokens)

    quantized = QUANTIZERS.build(GPTQSpec(grid=grid, act_order=act_order)).quantize(weight, seen)
    assert isinstance(quantized, IntegerTensor)

    assert quantized.shape == shape
    assert quantized.scale.shape == (shape[0], -(-shape[1] // quantized.group_size))
    assert (quantized.zero_point is None) == (grid.kind == "mxint" or grid.symmetric)
    assert bool(torch.isfinite(quantized.dequantize()).all())
    assert torch.equal(quantized.codes, quantized.codes.clamp(*code_range(grid)))


def code_range(grid: MXIntSpec | IntegerSpec) -> tuple[int, int]:
    half = 2 ** (grid.num_bits - 1)
    if grid.kind == "mxint":
        return 1 - half, half - 1
    return (-half, half - 1) if grid.symmetric else (0, 2 * half - 1)
