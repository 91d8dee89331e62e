"""Only the preserved ranks are slowed, by exactly what was asked for; by their gradients not at all under AdamW."""

import json

import pytest
import torch
from torch import nn

from srr_core.errors import CheckpointError, RecipeError
from srr_core.recipe.tuning import GradientSlowing, LearningRateSlowing, NoSlowing, PerRankSlowing
from srr_core.tuners.slowing import coefficients, preserved_ranks, slow_down

LAYER = "base_model.model.model.layers.0.mlp.up_proj"
RANK, PRESERVED = 8, {"layers.0.mlp.up_proj": 3}


def factors(module=LAYER):
    torch.manual_seed(0)
    left, right = torch.randn(12, RANK) * torch.arange(RANK, 0, -1), torch.randn(RANK, 10)
    return {f"{module}.lora_A.weight": nn.Parameter(right), f"{module}.lora_B.weight": nn.Parameter(left)}


def displaced(spec, *, steps=1, optimizer=torch.optim.AdamW, **options):
    """Return how far every rank has moved after some steps, L and R apart."""
    parameters = factors()
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    stepper = optimizer(parameters.values(), **options)
    slow_down(stepper, parameters, spec, coefficients(parameters, spec, PRESERVED))
    data = torch.randn(20, 10)
    for _ in range(steps):
        stepper.zero_grad()
        right, left = parameters.values()
        ((data @ right.t() @ left.t()).sin() ** 2).mean().backward()
        stepper.step()
    right, left = (parameter.detach() - before[name] for name, parameter in parameters.items())
    return right.abs().mean(1), left.abs().mean(0)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.0])
def test_preserved_ranks_and_only_they_learn_at_gamma_times_the_rate(gamma):
    plain = displaced(NoSlowing(), lr=1e-3)
    slowed = displaced(LearningRateSlowing(gamma=gamma), lr=1e-3)
    for before, after in zip(plain, slowed, strict=True):
        torch.testing.assert_close(after[:3] / before[:3], torch.full((3,), gamma), rtol=1e-3, atol=1e-3)
        assert torch.equal(after[3:], before[3:])


def test_gradients_that_are_scaled_change_nothing_under_adamw():
    plain = displaced(NoSlowing(), lr=1e-3, eps=1e-12)
    scaled = displaced(GradientSlowing(gamma=0.1), lr=1e-3, eps=1e-12)
    for before, after in zip(plain, scaled, strict=True):
        torch.testing.assert_close(after / before, torch.ones(RANK), rtol=5e-3, atol=5e-3)


def test_gradients_that_are_scaled_are_scaled():
    plain = displaced(NoSlowing(), optimizer=torch.optim.SGD, lr=1.0)
    scaled = displaced(GradientSlowing(gamma=0.1), optimizer=torch.optim.SGD, lr=1.0)
    for before, after in zip(plain, scaled, strict=True):
        torch.testing.assert_close(after[:3], 0.1 * before[:3], rtol=1e-2, atol=1e-8)
        assert torch.equal(after[3:], before[3:])


def test_weight_decay_is_slowed_with_the_rest():
    plain = displaced(NoSlowing(), lr=1e-2, weight_decay=0.5)
    slowed = displaced(LearningRateSlowing(gamma=0.1), lr=1e-2, weight_decay=0.5)
    for before, after in zip(plain, slowed, strict=True):
        torch.testing.assert_close(after[:3], 0.1 * before[:3], rtol=1e-2, atol=1e-6)


def test_strongest_rank_stands_still_and_weaker_ones_learn_more():
    plain, slowed = displaced(NoSlowing(), lr=1e-3), displaced(PerRankSlowing(alpha=5.0), lr=1e-3)
    speeds = next(iter(coefficients(factors(), PerRankSlowing(alpha=5.0), {}).values()))
    strength = torch.stack(
        [p.detach().norm(dim=axis) for p, axis in zip(factors().values(), (1, 0), strict=True)]
    ).prod(0)
    share = 6 * strength / (5 * strength + strength.max())
    torch.testing.assert_close(speeds, (1 - share).clamp(0, 1))
    assert float(speeds[strength.argmax()]) == pytest.approx(0, abs=1e-6)
    for before, after in zip(plain, slowed, strict=True):
        torch.testing.assert_close(after, speeds * before, rtol=1e-2, atol=1e-6)


def test_fresh_adapter_has_no_strong_rank():
    parameters = factors()
    nn.init.zeros_(parameters[f"{LAYER}.lora_B.weight"])
    speeds = coefficients(parameters, PerRankSlowing(), {})
    assert all(torch.equal(speed, torch.ones(RANK)) for speed in speeds.values())


def test_heads_are_never_slowed():
    parameters = {**factors(), "base_model.model.score.weight": nn.Parameter(torch.ones(2, 10))}
    assert set(coefficients(parameters, LearningRateSlowing(), PRESERVED)) == set(factors())


def test_start_that_preserves_nothing_is_refused():
    with pytest.raises(RecipeError, match="k is 0 in every layer"):
        coefficients(factors(), LearningRateSlowing(), {"layers.0.mlp.up_proj": 0})


def test_experts_are_refused():
    with pytest.raises(RecipeError, match="experts"):
        coefficients(factors("base_model.model.model.layers.0.mlp.experts"), LearningRateSlowing(), PRESERVED)


def test_ranks_come_from_the_report_of_the_compression(tmp_path):
    with pytest.raises(RecipeError, match=r"no report\.json"):
        preserved_ranks(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(CheckpointError, match=r"report\.json"):
        preserved_ranks(tmp_path)
