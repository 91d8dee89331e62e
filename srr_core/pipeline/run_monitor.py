"""What a run tells its caller, and how its caller stops it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from srr_core.errors import StopRequested
from srr_core.recipe.stages import Stage
from srr_core.types import OnProgress, Progress, ShouldStop


class RunMonitor:
    """Counts units of each stage, times the stages, and asks between units whether to stop."""

    def __init__(self, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> None:
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._totals: dict[Stage, int] = {}
        self._completed: dict[Stage, int] = {}
        self._seconds: dict[Stage, float] = {}
        self._inner_seconds = 0.0

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage; those of a stage inside another count to the inner one alone."""
        return {stage.value: round(seconds, 3) for stage, seconds in self._seconds.items()}

    @contextmanager
    def stage(self, stage: Stage, total: int) -> Iterator[None]:
        """Time a stage of `total` units; reports its start.

        Raises:
            StopRequested: the caller asked to stop.
        """
        self._totals[stage], self._completed[stage] = total, 0
        self._tell(Progress(stage, 0, total))
        self.check()
        with self.timed(stage):
            yield

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the time of this scope to a stage, and not to the stage around it."""
        began, outer_seconds = time.perf_counter(), self._inner_seconds
        self._inner_seconds = 0.0
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds - self._inner_seconds
            self._inner_seconds = outer_seconds + seconds

    def advance(
        self,
        stage: Stage,
        *,
        layer: str | None = None,
        block: int | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Report that one more unit of a stage is done."""
        self._completed[stage] += 1
        self._tell(Progress(stage, self._completed[stage], self._totals[stage], block, layer, metrics or {}))

    def stepper(self, stage: Stage) -> Callable[[object], None]:
        """Return a callback that advances a stage and may stop the run, whatever it is called with."""

        def step(_: object) -> None:
            self.advance(stage)
            self.check()

        return step

    def check(self) -> None:
        """Raise StopRequested when the caller asked to stop."""
        if self._should_stop is not None and self._should_stop():
            raise StopRequested("the run was stopped; finished layers are kept and the same command goes on from there")

    def _tell(self, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)
