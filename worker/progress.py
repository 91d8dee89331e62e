"""What the core tells of a run, as events of its job: often enough to watch, seldom enough to store."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from service.jobs.ports import JobAttempts
from service.jobs.schema import EventKind, Lease
from service.platform.errors import StoreUnavailableError
from srr_core.recipe.stages import Stage, share_done

if TYPE_CHECKING:  # that module loads torch, which takes seconds and is needed by the core only
    from srr_core.types import Progress

_log = structlog.get_logger(__name__)

_MINIMUM_SECONDS = 0.5


class ProgressRecorder:
    """Records the progress of one attempt. A database that is away for a moment delays layers, and loses none.

    `is_lost` becomes true when the attempt is no longer this worker's; the run must stop then.
    """

    def __init__(
        self,
        store: JobAttempts,
        lease: Lease,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._stage: Stage | None = None
        self._share = 0.0
        self._told_at = float("-inf")
        self._waiting: deque[tuple[EventKind, dict[str, Any]]] = deque()
        self.is_lost = False

    def on_progress(self, progress: "Progress") -> None:
        """Record a step of the core: a `layer` event for a finished layer, a `progress` event at most every 0.5 s."""
        if progress.layer is not None and progress.metrics:
            self._append("layer", _layer_data(progress))
        self.advance(Stage(progress.stage), progress.completed, progress.total)

    def on_bytes(self, completed: int, total: int) -> None:
        """Record how much of the source has arrived."""
        self.advance(Stage.DOWNLOAD, completed, total)

    def advance(self, stage: Stage, completed: int, total: int) -> None:
        """Record that `completed` of `total` units of a stage are done. The bar never goes back."""
        self._share = max(self._share, share_done(stage, completed, total))
        is_new_stage = stage != self._stage
        if not is_new_stage and self._clock() - self._told_at < _MINIMUM_SECONDS:
            return
        self._stage, self._told_at = stage, self._clock()
        try:
            held = self._store.progress(self._lease, stage=stage, progress=round(self._share, 4))
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
                event = self._store.append_event(self._lease, kind, data)
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
