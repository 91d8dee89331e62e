"""Sending what was committed: the broker learns of a job only after the database has it."""

from service.jobs.ports import JobOutbox
from service.jobs.queue import JobQueue

_BATCH = 100


class BrokerWatch:
    """Whether the broker answered when it was looked at last, for probes that must not wait for it."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._is_up = True

    def look(self) -> None:
        """Ask the broker. A periodic duty. Raises QueueUnavailableError."""
        self._is_up = False
        self._queue.ping()
        self._is_up = True

    def __call__(self) -> bool:
        """Return whether it answered."""
        return self._is_up


def flush_outbox(store: JobOutbox, queue: JobQueue) -> int:
    """Send every message that is due and return how many went out.

    Each is marked after it was sent: a crash in between sends it twice, never not at all, and the claim
    ignores the second delivery. Several processes may do this at once.

    Raises:
        QueueUnavailableError: the broker went away; what was sent before is marked, the rest stays due.
    """
    sent = 0
    while messages := store.unsent(limit=_BATCH):
        done: list[int] = []
        try:
            for message in messages:
                queue.enqueue(message.job_id, message.attempt, traceparent=message.traceparent)
                done.append(message.id)
        finally:
            store.mark_sent(done)
            sent += len(done)
    return sent
