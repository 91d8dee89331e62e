"""Stages inside stages: what is told, and whose time it is."""

import time

import pytest

from srr_core.errors import StopRequested
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.recipe.stages import Stage
from srr_core.types import Progress


def test_the_time_of_an_inner_stage_is_not_counted_to_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    monitor = RunMonitor(None, None)
    with monitor.stage(Stage.COMPRESS, 1), monitor.stage(Stage.CALIBRATE, 1), monitor.timed(Stage.COMPRESS):
        pass
    # outer 0 to 31, inner 1 to 15, outer again 3 to 7
    assert monitor.seconds == {"compress": 4.0 + 31.0 - 14.0, "calibrate": 14.0 - 4.0}


def test_a_stage_that_fails_is_timed_and_nothing_is_told_after_it() -> None:
    told: list[Progress] = []
    monitor = RunMonitor(told.append, lambda: len(told) > 1)
    with pytest.raises(StopRequested), monitor.stage(Stage.VERIFY, 2):
        monitor.stepper(Stage.VERIFY)("whatever")
    assert told == [Progress(Stage.VERIFY, 0, 2), Progress(Stage.VERIFY, 1, 2)]
    assert list(monitor.seconds) == ["verify"]
