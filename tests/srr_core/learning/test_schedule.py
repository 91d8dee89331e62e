"""Steps fall linearly, and sooner where nothing is gained."""

import itertools

import pytest

from srr_core.learning.schedule import Schedule


def shares(schedule: Schedule, losses: "itertools.count[float] | itertools.repeat[float]") -> list[float]:
    found = []
    for loss in losses:
        if schedule.share == 0:
            break
        found.append(schedule.share)
        schedule.note(loss)
    return found


def test_a_falling_loss_takes_every_step_and_they_fall_linearly() -> None:
    assert shares(Schedule(5, 1), itertools.count(1.0, -0.1)) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_a_flat_loss_lets_the_steps_fall_within_the_patience() -> None:
    found = shares(Schedule(100, 5), itertools.repeat(1.0))

    assert len(found) == 15
    assert found[:10] == pytest.approx([1 - step / 100 for step in range(10)])
    assert found[10:] == pytest.approx([0.9, 0.72, 0.54, 0.36, 0.18])


def test_a_loss_that_turns_flat_near_the_end_takes_no_step_more() -> None:
    assert len(shares(Schedule(12, 5), itertools.repeat(1.0))) == 12


def test_no_iterations_are_no_steps() -> None:
    assert shares(Schedule(0, 5), itertools.repeat(1.0)) == []
