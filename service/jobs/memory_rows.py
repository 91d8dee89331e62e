"""What the memory store keeps of each job."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.jobs.schema import Job, JobEvent, JobFilter, JobState, SealedSecret, Usage
from service.jobs.transitions import HELD_STATES


@dataclass
class Row:
    """One job and all that belongs to it."""

    job: Job
    queued_at: datetime
    events: list[JobEvent] = field(default_factory=list)
    lease_owner: str | None = None
    lease_until: datetime | None = None
    credential: SealedSecret | None = None
    report: Mapping[str, Any] | None = None


@dataclass
class Message:
    """One message of the outbox."""

    job_id: str
    attempt: int
    available_at: datetime
    sent_at: datetime | None = None


def matches(job: Job, filter: JobFilter) -> bool:
    """Whether a job is to be listed."""
    return (
        (filter.owner is None or job.owner == filter.owner)
        and (not filter.states or job.state in filter.states)
        and (filter.kind is None or job.work.kind == filter.kind)
        and (filter.model_id is None or job.work.source.model_id == filter.model_id)
        and (filter.destination is None or job.work.destination_id == filter.destination)
        and (filter.recipe is None or job.work.recipe_name == filter.recipe)
        and (filter.tag is None or filter.tag in job.tags)
        and (filter.created_after is None or job.created_at >= filter.created_after)
        and (filter.created_before is None or job.created_at < filter.created_before)
    )


def has_room(job: Job, rows: Iterable[Row]) -> bool:
    """Whether the owner of a job has fewer at work than it was submitted to wait for."""
    held = sum(row.job.owner == job.owner and row.job.state in HELD_STATES for row in rows)
    return job.max_running is None or held < job.max_running


def usage_of(jobs: Sequence[Job], *, since: datetime, now: datetime) -> Usage:
    """Return what an owner's jobs take now, and have taken since a moment."""
    recent = [job for job in jobs if job.started_at and (job.finished_at or now) > since]
    seconds = [(job.finished_at or now) - max(job.started_at or since, since) for job in recent]
    return Usage(
        queued=sum(job.state is JobState.QUEUED for job in jobs),
        running=sum(job.state in HELD_STATES for job in jobs),
        running_seconds=sum(one.total_seconds() for one in seconds),
    )
