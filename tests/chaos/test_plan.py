"""A seed stands for one plan, and a long plan holds every kind of fault."""

from tests.chaos.faults import FAULTS
from tests.chaos.plan import make_plan

WEIGHTS = [(name, weight) for name, (_, weight) in FAULTS.items()]


def test_a_seed_replays() -> None:
    assert make_plan(7, jobs=20, faults=50, weights=WEIGHTS) == make_plan(7, jobs=20, faults=50, weights=WEIGHTS)


def test_another_seed_is_another_plan() -> None:
    assert make_plan(7, jobs=20, faults=50, weights=WEIGHTS) != make_plan(8, jobs=20, faults=50, weights=WEIGHTS)


def test_every_fault_of_the_table_comes_as_often_as_it_weighs() -> None:
    total = sum(weight for _, weight in WEIGHTS)

    names = [fault.name for fault in make_plan(1, jobs=1, faults=total, weights=WEIGHTS).faults]

    assert {name: names.count(name) for name, _ in WEIGHTS} == dict(WEIGHTS)
