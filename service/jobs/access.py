"""Whose job it is: a job of somebody else is reported as one that does not exist."""

from service.jobs.errors import JobNotFoundError
from service.jobs.ports import JobReading
from service.jobs.schema import Job


def owned_job(store: JobReading, job_id: str, owner: str | None) -> Job:
    """Return a job if this owner may see it; None sees every job.

    Raises:
        JobNotFoundError: it does not exist or belongs to another owner.
    """
    job = store.get(job_id)
    if owner is not None and job.owner != owner:
        raise JobNotFoundError(f"no job has the id {job_id!r}")
    return job
