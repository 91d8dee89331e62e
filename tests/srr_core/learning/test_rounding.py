"""Rounding that learns: it starts where the grid left it, goes where autograd points, and stays on the grid."""

import pytest
import torch
from torch import Tensor

from srr_core.learning.rounding import learned_rounding
from srr_core.quantizers.learned import LearnableTensor, LearnedQuantizer
from srr_core.recipe import IntegerSpec, LearnedSpec, MXIntSpec

GRIDS = [
    IntegerSpec(num_bits=2, group_size=32),
    IntegerSpec(num_bits=3, group_size=16, search="mse"),
    IntegerSpec(num_bits=4, group_size=32, symmetric=True),
    IntegerSpec(num_bits=8, group_size=16),
    MXIntSpec(num_bits=2, block_size=16),
    MXIntSpec(num_bits=3, exponent="search"),
    MXIntSpec(num_bits=2, block_size=16, exponent_window=3),
]
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=repr)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def start_of(spec: LearnedSpec, weight: Tensor) -> LearnableTensor:
    return LearnedQuantizer(spec).learnable(weight)


@every_grid
@pytest.mark.parametrize("size", [1.0, 1e-9], ids=["usual", "tiny"])
def test_before_the_first_step_the_codes_are_those_of_the_start(grid: IntegerSpec | MXIntSpec, size: float) -> None:
    spec = LearnedSpec(grid=grid)
    weight = gaussian(12, 72) * size  # 72: the last group is short
    weight[3, :32] = 0.0
    start = start_of(spec, weight)

    rounding = learned_rounding(start, spec)

    stored = rounding.tensor()
    assert torch.equal(stored.codes, start.codes)
    assert torch.equal(stored.scale, start.scale)
    if start.zero_point is not None:
        assert stored.zero_point is not None
        assert torch.equal(stored.zero_point, start.zero_point)
    assert torch.equal(rounding.values(), start.dequantize())
    assert type(stored) is not LearnableTensor


@every_grid
def test_the_values_learned_on_are_those_that_are_stored(grid: IntegerSpec | MXIntSpec) -> None:
    spec = LearnedSpec(grid=grid)
    rounding = learned_rounding(start_of(spec, gaussian(12, 72)), spec)

    for number in range(20):
        rounding.step(gaussian(12, 72, seed=number), 0.05)

    assert torch.equal(rounding.tensor().dequantize(), rounding.values())


@every_grid
def test_codes_and_scales_stay_what_the_format_holds(grid: IntegerSpec | MXIntSpec) -> None:
    spec = LearnedSpec(grid=grid)
    start = start_of(spec, gaussian(12, 64))
    rounding = learned_rounding(start, spec)

    for number in range(60):
        rounding.step(gaussian(12, 64, seed=number), 0.1)
    stored = rounding.tensor()

    assert len(torch.unique(stored.codes)) <= 2**grid.num_bits
    assert stored.codes.dtype == start.codes.dtype
    if isinstance(grid, MXIntSpec):
        assert bool((torch.frexp(stored.scale).mantissa == 0.5).all())
        changes = start.scale / stored.scale
        assert set(changes.unique().tolist()) == ({1.0} if grid.exponent_window else {1.0, 2.0})
    else:
        assert torch.equal(stored.scale.half().float(), stored.scale)
        assert not torch.equal(stored.scale, start.scale)
        # A range never grows; its zero point and fp16 may move the step by a rounding.
        assert bool((stored.scale <= start.scale * (1 + 2**-10)).all())


def _ste_round(value: Tensor) -> Tensor:
    return value + (value.round() - value).detach()


def test_offsets_and_ranges_go_against_the_gradient_of_autograd() -> None:
    spec = LearnedSpec(grid=IntegerSpec(num_bits=2, group_size=16))
    weight, gradient = gaussian(8, 48), gaussian(8, 48, seed=1)
    start = start_of(spec, weight)
    rounding = learned_rounding(start, spec)
    for number in range(5):  # away from the start, where both factors are one
        rounding.step(gaussian(8, 48, seed=10 + number), 0.03)
    before = rounding.tensor()
    offset, low_factor, high_factor = (
        getattr(rounding, name).clone().requires_grad_(True) for name in ("_offset", "_low_factor", "_high_factor")
    )
    assert start.zero_point is not None
    first_zero = start.zero_point.float()
    low = -first_zero * start.scale * low_factor
    scale = (((3 - first_zero) * start.scale) * high_factor - low) / 3
    scale = scale + (scale.half().float() - scale).detach()
    zero = _ste_round(-low / scale).clamp(0, 3)
    codes = (_ste_round(weight.reshape(8, 3, 16) / scale[..., None] + offset) + zero[..., None]).clamp(0, 3)
    values = ((codes - zero[..., None]) * scale[..., None]).flatten(1)
    assert torch.equal(values, before.dequantize())
    (values * gradient).sum().backward()

    step = 1e-3
    rounding.step(gradient, step)

    for old, new in ((offset, "_offset"), (low_factor, "_low_factor"), (high_factor, "_high_factor")):
        assert old.grad is not None
        box = (-0.5, 0.5) if new == "_offset" else (0.0, 1.0)
        expected = (old.detach() - step * old.grad.sign()).clamp(*box)
        # Sums of another order may have another sign where they cancel.
        agreeing = (getattr(rounding, new) == expected) | (old.grad.abs() < 1e-5)
        assert bool(agreeing.all())
        assert int((old.grad != 0).sum()) > old.numel() / 2


def test_learning_towards_a_target_gets_nearer_than_the_grid_does() -> None:
    spec = LearnedSpec(grid=IntegerSpec(num_bits=2, group_size=32))
    weight = gaussian(16, 64)
    inputs = gaussian(256, 8, seed=3) @ gaussian(8, 64, seed=4)  # correlated, so that errors can cancel
    rounding = learned_rounding(start_of(spec, weight), spec)

    def loss() -> float:
        return float((inputs @ (rounding.values() - weight).T).square().mean())

    first = loss()
    for number in range(100):
        error = inputs @ (rounding.values() - weight).T
        rounding.step(error.T @ inputs, (1 - number / 100) / 100)

    assert loss() < 0.5 * first
