"""Jobs and events as rows of their tables, and back."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from service.jobs import tables
from service.jobs.schema import Job, JobEvent, JobFilter, UnreadableJob
from service.jobs.upgrade import read_event, read_job

_JOBS = tables.jobs.c
FIRST_SEQUENCE = 1
"""Number of the event every job begins with."""
_TIMES = ("created_at", "updated_at", "started_at", "finished_at")

JOB_COLUMNS = tuple(_JOBS[name] for name in Job.model_fields)


def job_values(job: Job) -> dict[str, Any]:
    """Return the columns that follow from a job alone: its own, and those that lists are filtered by."""
    values = job.model_dump(mode="json") | {name: getattr(job, name) for name in _TIMES}
    return values | {
        "kind": job.work.kind,
        "model_id": job.work.source.model_id,
        "destination_repo_id": job.work.destination_id,
        "recipe_name": job.work.recipe_name,
    }


def changed_values(before: Job, after: Job) -> dict[str, Any]:
    """Return only the columns two versions of a job differ in."""
    old, new = job_values(before), job_values(after)
    return {name: value for name, value in new.items() if old[name] != value}


def job_from_row(row: Row[Any]) -> Job:
    """Return the job of a row that selected `JOB_COLUMNS`. Raises UnreadableError."""
    return read_job(row._asdict())


def unreadable_job(row: Row[Any]) -> UnreadableJob:
    """Return what is known of a row that selected `JOB_COLUMNS` and cannot be read."""
    return UnreadableJob(id=row.id, owner=row.owner, state=row.state, created_at=row.created_at)


def new_job_values(job: Job, *, queued_at: datetime) -> dict[str, Any]:
    """Return every column of a job that is inserted together with its first event."""
    return job_values(job) | {"queued_at": queued_at, "last_sequence": FIRST_SEQUENCE}


def event_values(event: JobEvent) -> dict[str, Any]:
    """Return the columns of an event."""
    return event.model_dump() | {"kind": str(event.kind)}


def event_from_row(row: Row[Any]) -> JobEvent:
    """Return the event of a row."""
    return read_event(row._asdict())


def filter_conditions(filter: JobFilter) -> list[ColumnElement[bool]]:
    """Return what a row must satisfy to be listed."""
    tagged = select(tables.job_tags.c.job_id).where(tables.job_tags.c.tag == filter.tag)
    conditions: dict[str, Callable[[], ColumnElement[bool]]] = {
        "owner": lambda: _JOBS.owner == filter.owner,
        "kind": lambda: _JOBS.kind == filter.kind,
        "states": lambda: _JOBS.state.in_([str(state) for state in filter.states]),
        "model_id": lambda: _JOBS.model_id == filter.model_id,
        "destination": lambda: _JOBS.destination_repo_id == filter.destination,
        "recipe": lambda: _JOBS.recipe_name == filter.recipe,
        "tag": lambda: _JOBS.id.in_(tagged),
        "created_after": lambda: _JOBS.created_at >= filter.created_after,
        "created_before": lambda: _JOBS.created_at < filter.created_before,
    }
    return [condition() for name, condition in conditions.items() if getattr(filter, name) not in (None, ())]
