"""What the core tells of a run, as events of its job: often enough to watch, seldom enough to store."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from service.jobs.schema import EventKind
from service.jobs.store import JobStore
from service.platform.errors import StoreUnavailableError

if TYPE_CHECKING:  # that module loads torch, which takes seconds and is needed by the core only
    from srr_core.types import Progress

_log = structlog.get_logger(__name__)

_STAGE_SHARES: Mapping[str, tuple[float, float]] = {
    "download": (0.0, 0.15),
    "plan": (0.15, 0.16),
    "calibrate": (0.16, 0.16),
    "compress": (0.16, 0.80),
    "assemble": (0.80, 0.82),
    "verify": (0.82, 0.87),
    "evaluate": (0.87, 0.95),
    "publish": (0.95, 1.0),
}
"""Where each stage begins and ends in the bar: a heuristic, from runs of the demo model. Calibration and
compression alternate block by block, and finished layers alone move the bar."""
_MINIMUM_SECONDS = 0.5


class JobProgress:
    """Records the progress of one attempt. A database that is away for a moment delays layers, and loses none.

    `is_lost` becomes true when the attempt is no longer this worker's; the run must stop then.
    """

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        attempt: int,
        worker: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._attempt = attempt
        self._worker = worker
        self._clock = clock
        self._stage = ""
        self._share = 0.0
        self._told_at = float("-inf")
        self._waiting: deque[tuple[EventKind, dict[str, Any]]] = deque()
        self.is_lost = False

    def on_progress(self, progress: "Progress") -> None:
        """Record a step of the core: a `layer` event for a finished layer, a `progress` event at most every 0.5 s."""
        if progress.layer is not None and progress.metrics:
            self._append("layer", _layer_data(progress))
        self.advance(progress.stage, progress.completed, progress.total)

    def on_bytes(self, completed: int, total: int) -> None:
        """Record how much of the source has arrived."""
        self.advance("download", completed, total)

    def advance(self, stage: str, completed: int, total: int) -> None:
        """Record that `completed` of `total` units of a stage are done. The bar never goes back."""
        begin, end = _STAGE_SHARES[stage]
        self._share = max(self._share, begin + (end - begin) * (completed / total if total else 1.0))
        is_new_stage = stage != self._stage
        if not is_new_stage and self._clock() - self._told_at < _MINIMUM_SECONDS:
            return
        self._stage, self._told_at = stage, self._clock()
        try:
            held = self._store.progress(
                self._job_id, self._attempt, worker=self._worker, stage=stage, progress=round(self._share, 4)
            )
        except StoreUnavailableError as error:
            _log.warning("progress_not_recorded", code=error.code)
            return
        self.is_lost = self.is_lost or not held

    def say(self, message: str) -> None:
        """Add a line to the job's log, for the person who waits."""
        self._append("log", {"message": message})

    def _append(self, kind: EventKind, data: dict[str, Any]) -> None:
        self._waiting.append((kind, data))
        try:
            while self._waiting:
                kind, data = self._waiting[0]
                event = self._store.append_event(self._job_id, self._attempt, kind, data, worker=self._worker)
                self.is_lost = self.is_lost or event is None
                self._waiting.popleft()
        except StoreUnavailableError as error:
            _log.warning("events_delayed", code=error.code, waiting=len(self._waiting))


def _layer_data(progress: "Progress") -> dict[str, Any]:
    position = {
        "layer": progress.layer,
        "block": progress.block,
        "completed": progress.completed,
        "total": progress.total,
    }
    return position | dict(progress.metrics)
