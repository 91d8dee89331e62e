"""Stages inside stages: what is told, and whose time it is."""

import time

import pytest

from srr_core.errors import StopRequested
from srr_core.pipeline.watch import Watch
from srr_core.types import Progress


def test_the_time_of_an_inner_stage_is_not_counted_to_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    watch = Watch(None, None)
    with watch.stage("outer", 1), watch.stage("inner", 1), watch.timed("outer"):
        pass
    # outer 0 to 31, inner 1 to 15, outer again 3 to 7
    assert watch.seconds == {"outer": 4.0 + 31.0 - 14.0, "inner": 14.0 - 4.0}


def test_a_stage_that_fails_is_timed_and_nothing_is_told_after_it() -> None:
    told: list[Progress] = []
    watch = Watch(told.append, lambda: len(told) > 1)
    with pytest.raises(StopRequested), watch.stage("first", 2):
        watch.stepper("first")("whatever")
    assert told == [Progress("first", 0, 2), Progress("first", 1, 2)]
    assert list(watch.seconds) == ["first"]
