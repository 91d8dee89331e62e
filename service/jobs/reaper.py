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

    A worker died between receiving and claiming, or the broker was wiped. Which messages wait in the broker cannot be
    told, but how many do: what was sent for jobs that are still queued and is not among those is lost. The oldest are
    sent again, so that newcomers do not overtake them, and never more than are missing, so that a long queue does not
    grow by itself. A message that was not lost after all does no harm: the claim ignores the second delivery.

    Raises:
        QueueUnavailableError: the broker does not answer.
    """
    return store.resend_lost(sent_before=utc_now() - older_than, in_broker=queue.depth())
