"""Taking up jobs that were lost: with their worker, or with their message."""

from collections.abc import Sequence
from datetime import timedelta

from service.jobs.ports import JobHousekeeping, JobOutbox
from service.jobs.queue import JobQueue
from service.jobs.schema import Job
from service.platform.clock import utc_now


def reap_lost_jobs(store: JobHousekeeping) -> Sequence[Job]:
    """Queue, fail or cancel every job whose worker has let its lease run out, and return them."""
    return store.reap()


def resend_lost_messages(store: JobOutbox, queue: JobQueue, *, older_than: timedelta) -> int:
    """Make messages due again that the broker has lost, and return how many.

    A queued job whose message was sent long ago, while the broker's queue is empty: a worker died between
    receiving and claiming, or the broker was wiped. While the queue is not empty nothing can be told apart
    from a message that waits its turn, so nothing is done.

    Raises:
        QueueUnavailableError: the broker does not answer.
    """
    return 0 if queue.depth() else store.resend_lost(sent_before=utc_now() - older_than)
