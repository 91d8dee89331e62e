"""Jobs of one owner that publish to one repository, so that nobody is surprised by whose result lies on top."""

from service.jobs.ports import JobReading
from service.jobs.schema import TERMINAL_STATES, Job, JobFilter, JobState

SHOWN = 20
"""More of them are not named."""
_OPEN = tuple(state for state in JobState if state not in TERMINAL_STATES)


def same_destination(job: Job, store: JobReading) -> tuple[str, ...]:
    """Return the ids of the owner's earlier jobs that have not ended and publish to the same repository, newest first.

    Empty for a job that has ended itself, or publishes nothing. Those of other owners are not named: a destination
    that is theirs is refused when the job is submitted.
    """
    if job.state in TERMINAL_STATES or job.work.published_to is None:
        return ()
    wanted = JobFilter(
        owner=job.owner, states=_OPEN, destination=job.work.destination_id, created_before=job.created_at
    )
    return tuple(other.id for other in store.list(wanted, limit=SHOWN).jobs if other.id != job.id)
