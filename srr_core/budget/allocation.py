"""The best setting of every group within a budget: a knapsack with one choice per group.

For a price of a byte each group takes the choice with the lowest cost plus price; the price is found by bisection so
that the whole fits. That leaves a rest smaller than one step of one group, which is spent on the steps that lower the
cost most per byte as long as any fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from srr_core.errors import RecipeError

_BISECTIONS = 100
"""Halvings of the price on a logarithmic scale; far more than float64 tells apart."""
_PRICE_RANGE = 1e18


@dataclass(frozen=True)
class Choice:
    """One setting of one group: what it costs, and what it takes."""

    cost: float
    num_bytes: int


@dataclass(frozen=True)
class Allocation:
    """The chosen index of every group, with the sums of what was chosen."""

    chosen: tuple[int, ...]
    cost: float
    num_bytes: int


def allocate(groups: Sequence[Sequence[Choice]], budget_bytes: int) -> Allocation:
    """Return the choices of least cost that the bisection and the filling find within a budget.

    Deterministic; equal costs go to fewer bytes, then to the earlier choice.

    Args:
        groups: The choices of every group, at least one each.
    Raises:
        RecipeError: even the smallest choices do not fit; the message has the range.
    """
    smallest = sum(min(choice.num_bytes for choice in group) for group in groups)
    largest = sum(max(choice.num_bytes for choice in group) for group in groups)
    if budget_bytes < smallest:
        raise RecipeError(
            f"the budget of {budget_bytes} bytes for the compressed weights is below the {smallest} bytes of the "
            f"smallest settings; between {smallest} and {largest} can be reached with these choices"
        )
    chosen = [_best(group, 0.0) for group in groups]
    if _bytes(groups, chosen) > budget_bytes:
        chosen = _priced(groups, budget_bytes)
    _fill(groups, chosen, budget_bytes)
    cost = sum(group[index].cost for group, index in zip(groups, chosen, strict=True))
    return Allocation(tuple(chosen), cost, _bytes(groups, chosen))


def _priced(groups: Sequence[Sequence[Choice]], budget_bytes: int) -> list[int]:
    """Return the best choices at the lowest price at which they fit."""
    unit = max(choice.cost for group in groups for choice in group) or 1.0
    low, high = unit / _PRICE_RANGE, unit * _PRICE_RANGE
    for _ in range(_BISECTIONS):
        price = (low * high) ** 0.5
        if _bytes(groups, [_best(group, price) for group in groups]) > budget_bytes:
            low = price
        else:
            high = price
    chosen = [_best(group, high) for group in groups]
    return chosen if _bytes(groups, chosen) <= budget_bytes else [_smallest(group) for group in groups]


def _best(group: Sequence[Choice], price: float) -> int:
    def key(index: int) -> tuple[float, int, int]:
        return group[index].cost + price * group[index].num_bytes, group[index].num_bytes, index

    return min(range(len(group)), key=key)


def _smallest(group: Sequence[Choice]) -> int:
    return min(range(len(group)), key=lambda index: (group[index].num_bytes, group[index].cost, index))


def _bytes(groups: Sequence[Sequence[Choice]], chosen: Sequence[int]) -> int:
    return sum(group[index].num_bytes for group, index in zip(groups, chosen, strict=True))


def _fill(groups: Sequence[Sequence[Choice]], chosen: list[int], budget_bytes: int) -> None:
    """Spend what is left on the steps that lower the cost most per byte."""
    left = budget_bytes - _bytes(groups, chosen)
    while True:
        best: tuple[float, int, int] | None = None
        for number, group in enumerate(groups):
            now = group[chosen[number]]
            for index, choice in enumerate(group):
                more, gain = choice.num_bytes - now.num_bytes, now.cost - choice.cost
                if gain <= 0 or more > left:
                    continue
                rate = gain / more if more > 0 else float("inf")
                if best is None or rate > best[0]:
                    best = (rate, number, index)
        if best is None:
            return
        _, number, index = best
        left -= groups[number][index].num_bytes - groups[number][chosen[number]].num_bytes
        chosen[number] = index
