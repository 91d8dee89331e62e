"""What the workers of this installation can do, as they say themselves."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.jobs.errors import CapacityError
from service.jobs.workers import Worker
from service.platform.clock import utc_now
from srr_core.recipe.byte_sizes import size_words

_REMEMBER_SECONDS = 5.0
"""As often as a worker gives a sign of life; a submission does not ask the database each time."""


class WorkerList(Protocol):
    """Where the workers are listed."""

    def list(self) -> Sequence[Worker]:
        """Return the workers heard of in the last day."""


class Fleet:
    """The workers, read from the database every few seconds. Safe for threads."""

    def __init__(self, workers: WorkerList, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = -_REMEMBER_SECONDS
        self._known: Sequence[Worker] = ()

    def alive(self) -> Sequence[Worker]:
        """Return the workers heard of lately."""
        now = utc_now()
        return [worker for worker in self._recent() if worker.is_alive(now=now)]

    def has_hub_token(self) -> bool:
        """Whether a worker has a Hub token of its own, which may see and write what a caller without one cannot."""
        return any(worker.has_hub_token for worker in self._recent())

    def fastest(self) -> Worker | None:
        """Return the live worker that computes fastest, or None while none has said how fast it is."""
        measured = [worker for worker in self.alive() if worker.operations_per_second is not None]
        return max(measured, key=lambda worker: worker.operations_per_second or 0.0, default=None)

    def require_capacity(self, *, memory_bytes: int, scratch_bytes: int) -> None:
        """Refuse what no live worker can hold. A worker that does not say what it has counts as large enough.

        Raises:
            CapacityError: there are workers, and each is too small.
        """
        workers = self.alive()
        if not workers or any(_fits(worker, memory_bytes, scratch_bytes) for worker in workers):
            return
        offers = "; ".join(sorted({_offer(worker) for worker in workers}))
        raise CapacityError(
            f"the job needs about {size_words(memory_bytes)} of memory and {size_words(scratch_bytes)} of "
            f"scratch disk, more than any worker has ({offers}); choose a smaller model or fewer calibration tokens, "
            "or start a larger worker"
        )

    def _recent(self) -> Sequence[Worker]:
        with self._lock:
            if self._clock() - self._read_at >= _REMEMBER_SECONDS:
                self._known = self._workers.list()
                self._read_at = self._clock()
            return self._known


def _fits(worker: Worker, memory_bytes: int, scratch_bytes: int) -> bool:
    memory, scratch = worker.memory_bytes, worker.scratch_bytes
    return (memory is None or memory >= memory_bytes) and (scratch is None or scratch >= scratch_bytes)


def _offer(worker: Worker) -> str:
    sizes = (("memory", worker.memory_bytes), ("scratch disk", worker.scratch_bytes))
    return ", ".join(f"{size_words(size)} of {name}" for name, size in sizes if size is not None)
