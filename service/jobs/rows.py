"""Jobs and events as rows of their tables, and back."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from service.jobs import tables
from service.jobs.schema import Job, JobEvent, JobFilter

_JOBS = tables.jobs.c
_PLAIN = (
    "id",
    "owner",
    "state",
    "stage",
    "progress",
    "attempt",
    "max_attempts",
    "source",
    "destination",
    "recipe",
    "calibration",
    "evaluation",
    "tags",
    "acknowledge_license",
    "brought_token",
    "result",
    "failure",
    "has_report",
    "content_key",
    "traceparent",
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
)
FIRST_SEQUENCE = 1
"""Number of the event every job begins with."""
_TIMES = ("created_at", "updated_at", "started_at", "finished_at")

JOB_COLUMNS = tuple(_JOBS[name] for name in _PLAIN)


def job_values(job: Job) -> dict[str, Any]:
    """Return the columns that follow from a job alone."""
    values = job.model_dump(mode="json", include=set(_PLAIN))
    values |= {name: getattr(job, name) for name in _TIMES}
    return values | {
        "model_id": job.source.model_id,
        "destination_repo_id": job.destination.repo_id,
        "recipe_name": job.recipe.name,
    }


def changed_values(before: Job, after: Job) -> dict[str, Any]:
    """Return only the columns two versions of a job differ in."""
    old, new = job_values(before), job_values(after)
    return {name: value for name, value in new.items() if old[name] != value}


def job_from_row(row: Row[Any]) -> Job:
    """Return the job of a row that selected `JOB_COLUMNS`."""
    return Job.model_validate(row._asdict())


def new_job_values(job: Job, *, queued_at: datetime) -> dict[str, Any]:
    """Return every column of a job that is inserted together with its first event."""
    return job_values(job) | {"queued_at": queued_at, "last_sequence": FIRST_SEQUENCE}


def event_values(event: JobEvent) -> dict[str, Any]:
    """Return the columns of an event."""
    return event.model_dump() | {"kind": str(event.kind)}


def event_from_row(row: Row[Any]) -> JobEvent:
    """Return the event of a row."""
    return JobEvent.model_validate(row._asdict())


def filter_conditions(filter: JobFilter) -> list[ColumnElement[bool]]:
    """Return what a row must satisfy to be listed."""
    tagged = select(tables.job_tags.c.job_id).where(tables.job_tags.c.tag == filter.tag)
    conditions: dict[str, Callable[[], ColumnElement[bool]]] = {
        "owner": lambda: _JOBS.owner == filter.owner,
        "states": lambda: _JOBS.state.in_([str(state) for state in filter.states]),
        "model_id": lambda: _JOBS.model_id == filter.model_id,
        "destination": lambda: _JOBS.destination_repo_id == filter.destination,
        "recipe": lambda: _JOBS.recipe_name == filter.recipe,
        "tag": lambda: _JOBS.id.in_(tagged),
        "created_after": lambda: _JOBS.created_at >= filter.created_after,
        "created_before": lambda: _JOBS.created_at < filter.created_before,
    }
    return [condition() for name, condition in conditions.items() if getattr(filter, name) not in (None, ())]
