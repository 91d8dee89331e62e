"""Canceling a job: at once while it waits, through its worker while it runs."""

from service.jobs.access import owned_job
from service.jobs.ports import JobsOfCallers
from service.jobs.schema import Job


def cancel(job_id: str, *, owner: str | None, store: JobsOfCallers) -> Job:
    """Ask for the end of a job and return it; a running one is `canceling` until its worker has stopped.

    Raises:
        JobNotFoundError: it does not exist or belongs to another owner.
        JobFinishedError: it has ended.
    """
    owned_job(store, job_id, owner)
    return store.cancel(job_id)
