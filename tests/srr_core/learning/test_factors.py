"""L and R while they learn."""

import torch

from srr_core.learning.factors import LearnedFactors


def size(factor: torch.Tensor) -> float:
    return float(factor.square().mean().sqrt())


def test_a_step_is_that_of_torchs_adam_in_units_of_the_factors_size() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(12, 3, generator=generator), 0.1 * torch.randn(3, 8, generator=generator)
    ours = LearnedFactors(left, right)
    theirs = [left.clone().requires_grad_(True), right.clone().requires_grad_(True)]
    adam = torch.optim.Adam([{"params": [factor], "lr": 1e-2 * size(factor.detach())} for factor in theirs])

    for _ in range(4):
        gradient = torch.randn(12, 8, generator=generator)
        ours.step(gradient, 1e-2)
        adam.zero_grad()
        (theirs[0] @ theirs[1]).backward(gradient)
        adam.step()

    assert torch.allclose(ours.values(), theirs[0] @ theirs[1], rtol=1e-5, atol=1e-6)


def test_what_is_stored_has_the_dtype_it_came_in_and_the_start_is_left_alone() -> None:
    left, right = torch.ones(4, 2, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16)
    factors = LearnedFactors(left, right)

    factors.step(torch.ones(4, 4), 1e-1)

    assert {factor.dtype for factor in factors.stored()} == {torch.bfloat16}
    assert not torch.equal(factors.stored()[0], left)
    assert torch.equal(left, torch.ones(4, 2, dtype=torch.bfloat16))
