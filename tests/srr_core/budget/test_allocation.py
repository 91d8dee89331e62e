"""The knapsack of a budget: within it, nearly all of it spent, and as good as trying everything."""

import itertools

import pytest
import torch

from srr_core.budget.allocation import Choice, allocate
from srr_core.errors import RecipeError


def problem(groups: int, choices: int, seed: int) -> list[list[Choice]]:
    """Return groups whose costs fall with bytes, roughly by a quarter a bit, as those of quantizers do."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(groups):
        weight, size = (float(torch.rand(1, generator=generator)) + 0.1 for _ in range(2))
        found.append(
            [
                Choice(
                    weight * 4.0**-level * (1 + float(torch.rand(1, generator=generator)) / 4),
                    int(size * 100) * (level + 2),
                )
                for level in range(choices)
            ]
        )
    return found


def best_by_trying(groups: list[list[Choice]], budget: int) -> float:
    return min(
        sum(choice.cost for choice in chosen)
        for chosen in itertools.product(*groups)
        if sum(choice.num_bytes for choice in chosen) <= budget
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_it_is_within_the_budget_and_near_the_best_there_is(share: float, seed: int) -> None:
    groups = problem(6, 4, seed)
    smallest = sum(min(choice.num_bytes for choice in group) for group in groups)
    largest = sum(max(choice.num_bytes for choice in group) for group in groups)
    budget = int(smallest + share * (largest - smallest))

    found = allocate(groups, budget)

    assert found.num_bytes <= budget
    assert found.num_bytes == sum(group[index].num_bytes for group, index in zip(groups, found.chosen, strict=True))
    assert found.cost == pytest.approx(sum(g[i].cost for g, i in zip(groups, found.chosen, strict=True)))
    # Six groups leave coarse gaps that filling cannot close; with hundreds they vanish.
    assert found.cost <= 1.3 * best_by_trying(groups, budget)


def test_many_groups_spend_nearly_all_of_it() -> None:
    groups = problem(300, 4, 0)
    budget = sum(group[1].num_bytes for group in groups)

    found = allocate(groups, budget)

    assert 0.998 * budget < found.num_bytes <= budget
    assert found.cost < 0.8 * sum(group[1].cost for group in groups)


def test_everything_is_bought_where_there_is_room() -> None:
    groups = problem(5, 3, 1)

    found = allocate(groups, 10**9)

    assert all(
        group[index].cost == min(c.cost for c in group) for group, index in zip(groups, found.chosen, strict=True)
    )


def test_a_choice_that_is_dearer_and_no_better_is_never_taken() -> None:
    assert allocate([[Choice(1.0, 10), Choice(1.0, 20), Choice(2.0, 30)]], 100).chosen == (0,)


def test_costs_of_nothing_take_the_fewest_bytes() -> None:
    assert allocate([[Choice(0.0, 20), Choice(0.0, 10)]], 15).chosen == (1,)


def test_one_choice_per_group_is_taken_or_refused_with_the_range() -> None:
    groups = [[Choice(1.0, 10)], [Choice(1.0, 30)]]
    assert allocate(groups, 40).chosen == (0, 0)

    with pytest.raises(RecipeError, match=r"39 bytes .* below the 40 .* between 40 and 40"):
        allocate(groups, 39)
