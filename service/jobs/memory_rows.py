"""What the memory store keeps of each job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.jobs.schema import Job, JobEvent, JobFilter, SealedSecret


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
