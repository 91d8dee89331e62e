"""What the core reports of a run, as events of its job: often enough to watch, seldom enough to store."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from service.jobs.ports import JobsOfWorkers
from service.jobs.schema import EventKind, Lease
from service.platform.errors import StoreUnavailableError
from service.platform.text import clean
from srr_core.recipe.stages import COMPRESSION, Shares, Stage, share_done
from srr_core.report import LayerReport

if TYPE_CHECKING:  # that module loads torch, which takes seconds and is needed by the core only
    from srr_core.types import Progress

_log = structlog.get_logger(__name__)

_MINIMUM_SECONDS = 0.5
_RETRY_SECONDS = 0.5
_METRICS_SECONDS = 2.0
"""Steps of a training are recorded together: small models make hundreds in a second."""
_LAYERS: tuple[EventKind, ...] = ("layer",)
T = TypeVar("T")


class ProgressRecorder:
    """Records the progress of one attempt. A database that is away for a moment delays layers, and loses none.

    What an attempt could not tell because it was ended meanwhile, a later one tells with `tell_missing`.

    `is_lost` becomes true when the attempt is no longer this worker's; the run must stop then.
    """

    def __init__(
        self,
        store: JobsOfWorkers,
        lease: Lease,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._sleep = sleep
        self._stage: Stage | None = None
        self._share = 0.0
        self._told_at = float("-inf")
        self._waiting: deque[tuple[EventKind, dict[str, Any]]] = deque()
        self._rows: list[dict[str, float]] = []
        self._flushed_at = clock()
        self.is_lost = False
        self.shares: Shares = COMPRESSION
        """How much of the whole each stage is; set once the kind of work is known."""

    def on_progress(self, progress: "Progress") -> None:
        """Record a step of the core: a `layer` event for a finished layer, `metrics` of a training, progress."""
        if progress.layer is not None and progress.metrics:
            self._append("layer", _layer_data(progress))
        elif progress.stage == Stage.TRAIN and progress.metrics:
            self._learned(dict(progress.metrics))
        self.advance(Stage(progress.stage), progress.completed, progress.total)

    def tell(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Append an event of another kind; what was learned before it is told first."""
        self.flush()
        self._append(kind, data)

    def flush(self) -> None:
        """Record the steps of a training that were kept back."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._append("metrics", {"rows": rows})
        self._flushed_at = self._clock()

    def _learned(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        if self._clock() - self._flushed_at >= _METRICS_SECONDS:
            self.flush()

    def on_bytes(self, completed: int, total: int) -> None:
        """Record how much of the source has arrived."""
        self.advance(Stage.DOWNLOAD, completed, total)

    def advance(self, stage: Stage, completed: int, total: int) -> None:
        """Record that `completed` of `total` units of a stage are done. The bar never goes back."""
        self._share = max(self._share, share_done(stage, completed, total, shares=self.shares))
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
        self._append("log", {"message": clean(message)})

    def tell_missing(self, layers: Sequence[LayerReport], *, should_stop: Callable[[], bool]) -> None:
        """Add an event for each finished layer that has none, so that a job reports every layer once.

        The layers on disk are the truth: an attempt that ended while the database was away has reported fewer.
        """
        told = self._persist(self._told_layers, should_stop) or set()
        missing = [layer for layer in layers if layer.name not in told | self._waiting_layers()]
        self._waiting += [("layer", _facts(layer)) for layer in missing] if not self.is_lost else []
        self.settle(should_stop=should_stop)

    def settle(self, *, should_stop: Callable[[], bool]) -> None:
        """Write what waits for the database, for as long as it is away; returns when that succeeds or we must stop."""
        self.flush()
        self._persist(self._write_waiting, should_stop)

    def _persist(self, action: Callable[[], T], should_stop: Callable[[], bool]) -> T | None:
        while not self.is_lost and not should_stop():
            try:
                return action()
            except StoreUnavailableError as error:
                _log.warning("events_delayed", code=error.code, waiting=len(self._waiting))
                self._sleep(_RETRY_SECONDS)
        return None

    def _told_layers(self) -> set[str]:
        told: set[str] = set()
        after = 0
        while page := self._store.events(self._lease.job_id, after=after, kinds=_LAYERS):
            told |= {str(event.data.get("layer")) for event in page}
            after = page[-1].sequence
        return told

    def _waiting_layers(self) -> set[str]:
        return {str(data["layer"]) for kind, data in self._waiting if kind == "layer"}

    def _append(self, kind: EventKind, data: dict[str, Any]) -> None:
        self._waiting.append((kind, data))
        try:
            self._write_waiting()
        except StoreUnavailableError as error:
            _log.warning("events_delayed", code=error.code, waiting=len(self._waiting))

    def _write_waiting(self) -> None:
        while self._waiting:
            kind, data = self._waiting[0]
            event = self._store.append_event(self._lease, kind, data)
            self.is_lost = self.is_lost or event is None
            self._waiting.popleft()


def _facts(layer: LayerReport) -> dict[str, Any]:
    """Return what is reported of a layer afterwards: without its place in the run, which was another attempt's."""
    return {
        "layer": layer.name,
        "output_error": layer.output_error,
        "preserved_rank": float(layer.preserved_rank),
        "seconds": layer.seconds,
    }


def _layer_data(progress: "Progress") -> dict[str, Any]:
    position = {
        "layer": progress.layer,
        "block": progress.block,
        "completed": progress.completed,
        "total": progress.total,
    }
    return position | dict(progress.metrics)
