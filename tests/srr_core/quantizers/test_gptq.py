"""GPTQ against a literal transcription of the published loop, its identities, and its fallbacks."""

import gc

import pytest
import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.quantizers.gptq import GPTQQuantizer
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec
from srr_core.types import IntegerTensor, Statistics

GRIDS = [
    IntegerSpec(num_bits=3, group_size=32),
    IntegerSpec(num_bits=4, group_size=64, symmetric=True, search="mse"),
    MXIntSpec(num_bits=3),
    MXIntSpec(num_bits=2, block_size=16, exponent="search", exponent_window=3),
]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=repr)
either_order = pytest.mark.parametrize("act_order", [False, True])


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def statistics(autocorrelation: Tensor) -> Statistics:
    return Statistics(autocorrelation, autocorrelation.diagonal().sqrt(), 1024)


def correlated(width: int) -> Tensor:
    inputs = gaussian(4 * width, width, seed=1) @ gaussian(width, width, seed=2)
    order = torch.randperm(width, generator=torch.Generator().manual_seed(3))
    inputs *= torch.logspace(0, -1.5, width, dtype=torch.float64)[order]
    return inputs.T @ inputs / len(inputs)


def output_error(values: Tensor, weight: Tensor, autocorrelation: Tensor) -> float:
    error = values.double() - weight.double()
    return float(((error @ autocorrelation) * error).sum().sqrt())


def published_gptq(weight: Tensor, autocorrelation: Tensor, *, num_bits: int, group_size: int) -> Tensor:
    """Return what the published loop gives, in float64: explicit inverse, weights updated in place."""
    hessian = 2 * autocorrelation
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    updated, values = weight.double().clone(), torch.zeros_like(weight, dtype=torch.float64)
    scale = zero_point = torch.zeros(len(weight), dtype=torch.float64)
    for column in range(weight.shape[1]):
        if column % group_size == 0:
            group = updated[:, column : column + group_size]
            low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
            scale = ((high - low) / (2**num_bits - 1)).half().double()
            zero_point = (-low / scale).round()
        codes = ((updated[:, column] / scale).round() + zero_point).clamp(0, 2**num_bits - 1)
        values[:, column] = (codes - zero_point) * scale
        error = (updated[:, column] - values[:, column]) / upper[column, column]
        updated[:, column:] -= error[:, None] * upper[column, column:]
    return values


@pytest.mark.parametrize("width", [64, 200])
def test_the_values_are_those_of_the_published_loop(width: int) -> None:
    weight, autocorrelation = gaussian(16, width).float(), correlated(width)
    spec = GPTQSpec(grid=IntegerSpec(num_bits=4, group_size=32), act_order=False)

    ours = QUANTIZERS.build(spec).quantize(weight, statistics(autocorrelation)).dequantize()
    theirs = published_gptq(weight, autocorrelation, num_bits=4, group_size=32)

    # Both round the same targets, ours in float32: only a target within 1e-6 of a tie may differ, and none is here.
    assert torch.equal(ours.double(), theirs)


@every_grid
@either_order
@pytest.mark.parametrize("width", [128, 70])
def test_uncorrelated_inputs_of_equal_energy_give_round_to_nearest(
    grid: IntegerSpec | MXIntSpec, act_order: bool, width: int
) -> None:
    weight = gaussian(16, width).float()
    white = statistics(3 * torch.eye(width, dtype=torch.float64))

    fed_back = QUANTIZERS.build(GPTQSpec(grid=grid, act_order=act_order)).quantize(weight, white)
    nearest = QUANTIZERS.build(grid).quantize(weight)

    assert isinstance(fed_back, IntegerTensor)
    assert isinstance(nearest, IntegerTensor)
    assert torch.equal(fed_back.codes, nearest.codes)
    assert torch.equal(fed_back.scale, nearest.scale)
    assert torch.equal(fed_back.dequantize(), nearest.dequantize())


@every_grid
@either_order
def test_correlated_inputs_lose_less_than_with_round_to_nearest(grid: IntegerSpec | MXIntSpec, act_order: bool) -> None:
    weight, autocorrelation = gaussian(64, 160).float(), correlated(160)

    fed_back = QUANTIZERS.build(GPTQSpec(grid=grid, act_order=act_order)).quantize(weight, statistics(autocorrelation))
    nearest = QUANTIZERS.build(grid).quantize(weight)

    assert output_error(fed_back.dequantize(), weight, autocorrelation) < 0.9 * output_error(
        nearest.dequantize(), weight, autocorrelation
    )


@every_grid
def test_with_act_order_the_grids_are_those_of_the_original_groups(grid: IntegerSpec | MXIntSpec) -> None:
    weight = gaussian(16, 128).float()

    fed_back = QUANTIZERS.build(GPTQSpec(grid=grid)).quantize(weight, statistics(correlated(128)))
    nearest = QUANTIZERS.build(grid).quantize(weight)

    assert torch.equal(fed_back.tensors()["scale"], nearest.tensors()["scale"])


def test_an_exponent_window_holds_without_act_order() -> None:
    weight = gaussian(16, 512).float() * torch.logspace(0, -4, 512)
    spec = GPTQSpec(grid=MXIntSpec(num_bits=3, exponent_window=5), act_order=False)

    scale = QUANTIZERS.build(spec).quantize(weight, statistics(correlated(512))).tensors()["scale"]

    assert float((scale[:, :8].amax(1) / scale[:, :8].amin(1)).max()) <= 2.0**5
    assert float((scale[:, 8:].amax(1) / scale[:, 8:].amin(1)).max()) <= 2.0**5


@either_order
def test_dead_inputs_get_zeros_and_leave_the_others_alone(act_order: bool) -> None:
    weight, autocorrelation = gaussian(8, 64).float(), correlated(64)
    dead = torch.tensor([3, 40])
    autocorrelation[dead] = 0
    autocorrelation[:, dead] = 0
    without = weight.clone()
    without[:, dead] = 0
    quantizer = QUANTIZERS.build(GPTQSpec(act_order=act_order))

    result = quantizer.quantize(weight, statistics(autocorrelation))

    assert torch.equal(result.dequantize()[:, dead], torch.zeros(8, 2))
    assert torch.equal(result.dequantize(), quantizer.quantize(without, statistics(autocorrelation)).dequantize())
    assert result.notes == ("2 of 64 inputs never moved in calibration; GPTQ set their weights to 0",)


def test_inputs_that_never_moved_at_all_are_rounded_to_nearest_and_reported() -> None:
    weight = gaussian(8, 64).float()

    result = QUANTIZERS.build(GPTQSpec()).quantize(weight, statistics(torch.zeros(64, 64, dtype=torch.float64)))

    assert torch.equal(result.dequantize(), QUANTIZERS.build(IntegerSpec(num_bits=3)).quantize(weight).dequantize())
    assert result.notes == ("no input moved in calibration; rounded to nearest instead of GPTQ",)


def test_an_indefinite_statistic_raises_the_damping_and_says_so() -> None:
    autocorrelation = torch.eye(64, dtype=torch.float64)
    autocorrelation[0, 1] = autocorrelation[1, 0] = 1.05

    result = QUANTIZERS.build(GPTQSpec()).quantize(gaussian(8, 64).float(), statistics(autocorrelation))

    assert result.notes == ("GPTQ damping was raised from 0.01 to 0.1",)


@pytest.mark.parametrize("entry", [5.0, float("nan")])
def test_a_statistic_beyond_repair_falls_back_to_round_to_nearest_and_says_so(entry: float) -> None:
    weight = gaussian(8, 64).float()
    autocorrelation = torch.eye(64, dtype=torch.float64)
    autocorrelation[0, 1] = autocorrelation[1, 0] = entry

    result = QUANTIZERS.build(GPTQSpec()).quantize(weight, statistics(autocorrelation))

    assert torch.equal(result.dequantize(), QUANTIZERS.build(IntegerSpec(num_bits=3)).quantize(weight).dequantize())
    assert result.notes == ("the statistic has no factor at damping 1; rounded to nearest instead of GPTQ",)


def test_missing_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="calibrate first"):
        QUANTIZERS.build(GPTQSpec()).quantize(torch.ones(2, 32))


def test_statistics_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="of 16 inputs, the weight has 32"):
        QUANTIZERS.build(GPTQSpec()).quantize(torch.ones(2, 32), statistics(correlated(16)))


def test_the_factor_is_kept_for_the_same_statistics_and_freed_with_them() -> None:
    quantizer = QUANTIZERS.build(GPTQSpec())
    assert isinstance(quantizer, GPTQQuantizer)
    weight, seen = gaussian(8, 64).float(), statistics(correlated(64))

    quantizer.quantize(weight, seen)
    first = quantizer._latest
    quantizer.quantize(weight * 2, seen)
    second = quantizer._latest
    del seen
    gc.collect()

    assert first is not None
    assert first is second
    assert quantizer._latest is None


def test_other_statistics_get_their_own_factor() -> None:
    weight = gaussian(8, 64).float()
    used = QUANTIZERS.build(GPTQSpec())
    # Alive until the end: a factor that died with its statistics could not be taken by mistake.
    first = statistics(correlated(64))
    before = used.quantize(weight, first).dequantize()
    other = statistics(torch.eye(64, dtype=torch.float64))

    assert torch.equal(
        used.quantize(weight, other).dequantize(),
        QUANTIZERS.build(GPTQSpec()).quantize(weight, other).dequantize(),
    )
    assert not torch.equal(used.quantize(weight, other).dequantize(), before)
    assert torch.equal(used.quantize(weight, first).dequantize(), before)
