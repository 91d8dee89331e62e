"""The periodic duties of the job domain, in a small thread of every process that has a store and a queue."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from service.jobs.errors import QueueUnavailableError
from service.jobs.outbox import flush_outbox
from service.jobs.ports import JobOutbox, JobStore
from service.jobs.queue import JobQueue
from service.jobs.reaper import reap_lost_jobs, resend_lost_messages
from service.jobs.settings import JobsSettings
from service.platform.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)

Duty = Callable[[], object]


class Maintenance:
    """Does duties at an interval: takes up lost jobs, deletes what has expired, sends the outbox.

    Run it in the API and in every worker. Every duty is a compare-and-set in the database, so that several
    at once are safe, and none is a single point of failure.
    """

    def __init__(self, duties: Sequence[Duty], *, interval_seconds: float, urgent: Sequence[Duty] = ()) -> None:
        """Build the duties of a thread; those that are `urgent` are also done, alone, whenever it is woken."""
        self._duties = (*duties, *urgent)
        self._urgent = tuple(urgent)
        self._interval_seconds = interval_seconds
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; it does a round at once."""
        self._thread = threading.Thread(target=self.run, name="maintenance", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """End the thread after the duty it is in."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def wake(self) -> None:
        """Ask for the urgent duties now. Returns at once; the caller never waits for the broker."""
        self._wake.set()

    def run(self) -> None:
        """Do rounds in this thread until `stop`."""
        due = time.monotonic()
        while not self._stop.is_set():
            self._wake.clear()
            if time.monotonic() >= due:
                self.run_once()
                due = time.monotonic() + self._interval_seconds
            else:
                self._run(self._urgent)
            self._wake.wait(max(0.0, due - time.monotonic()))

    def run_once(self) -> None:
        """Do every duty once. One that fails is logged and does not keep the others from their turn."""
        self._run(self._duties)

    def _run(self, duties: Sequence[Duty]) -> None:
        for duty in duties:
            try:
                duty()
            except (QueueUnavailableError, StoreUnavailableError) as error:
                _log.warning("maintenance_postponed", duty=_name(duty), code=error.code, reason=str(error))
            except Exception:  # noqa: BLE001  # the loop outlives a bug in one duty; the log has the trace
                _log.exception("maintenance_failed", duty=_name(duty))


def job_duties(store: JobStore, queue: JobQueue, settings: JobsSettings) -> tuple[Duty, ...]:
    """Return the periodic duties of the job domain; what they find is sent by `flush_duty`, after them."""
    older_than = timedelta(seconds=settings.lost_message_seconds)

    def reap() -> None:
        for job in reap_lost_jobs(store):
            _log.warning("job_reaped", job_id=job.id, state=str(job.state), attempt=job.attempt)

    def resend() -> None:
        if count := resend_lost_messages(store, queue, older_than=older_than):
            _log.warning("messages_resent", count=count)

    def forget() -> None:
        store.forget_expired()

    return (reap, resend, forget)


def flush_duty(store: JobOutbox, queue: JobQueue) -> Duty:
    """Return the one urgent duty: sending what the outbox holds."""

    def flush() -> None:
        flush_outbox(store, queue)

    return flush


def _name(duty: Duty) -> str:
    return getattr(duty, "__name__", type(duty).__name__)
