"""The numbers of the job domain, read from the database: one truth, whichever process is asked."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine, and_, func, or_, select

from service.jobs import tables
from service.jobs.schema import TERMINAL_STATES, JobState
from service.jobs.transitions import HELD_STATES
from service.jobs.workers import SILENT_AFTER
from service.platform.database import reading
from srr_core.recipe.stages import Stage

_log = structlog.get_logger(__name__)
_JOBS, _OUTBOX, _WORKERS = tables.jobs.c, tables.job_outbox.c, tables.workers.c
_TERMINAL = tuple(sorted(str(state) for state in TERMINAL_STATES))
_HELD = tuple(sorted(str(state) for state in HELD_STATES))
RECENT = timedelta(hours=1)
_RECENT_JOBS = 200
"""Reports read for the stage times; the newest, so that a scrape costs the same on a busy day."""


@dataclass(frozen=True)
class JobMetrics:
    """One look at the jobs of an installation."""

    jobs: Mapping[str, int]
    """Number of jobs by state, every state named."""
    oldest_queued_seconds: float
    """How long the first in the queue has waited; 0 when nobody waits."""
    shortest_lease_seconds: float | None
    """Until the first lease expires; negative when a worker is lost and not yet reaped. None: nothing runs."""
    unsent_messages: int
    """Messages that are due and that the broker has not taken."""
    workers_alive: int
    """Workers heard of lately, busy or not."""
    workers_unfit: int
    """Those of them that take no job, because of a trouble of their own."""
    ended: Mapping[str, int]
    """Number of jobs that ended in the last hour and were not tried again, by state, every final state named."""
    publish_failures: int
    """Those of them that failed while publishing."""
    wall_seconds: float
    """Time within the last hour that jobs were in the hands of workers, the current or last attempt of each."""
    stage_seconds: Mapping[str, float]
    """Mean time of each stage over the jobs of the last hour."""


def read_job_metrics(engine: Engine, *, now: datetime) -> JobMetrics:
    """Read the numbers, in one transaction. A few milliseconds with 100,000 jobs.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    since = now - RECENT
    with reading(engine) as connection:
        counted = connection.execute(select(_JOBS.state, func.count()).group_by(_JOBS.state))
        found = {str(state): int(count) for state, count in counted}
        queued = select(func.min(_JOBS.queued_at)).where(_JOBS.state == str(JobState.QUEUED))
        oldest = connection.execute(queued).scalar_one()
        lease = connection.execute(select(func.min(_JOBS.lease_until)).where(_JOBS.state.in_(_HELD))).scalar_one()
        unsent = select(func.count()).where(_OUTBOX.sent_at.is_(None), _OUTBOX.available_at <= now)
        alive = select(func.count()).where(_WORKERS.seen_at > now - SILENT_AFTER)
        unfit = alive.where(_WORKERS.trouble.is_not(None))
        recent = (_JOBS.state.in_(_TERMINAL), _JOBS.finished_at > since)
        ended = dict.fromkeys(_TERMINAL, 0)
        for state, count in connection.execute(select(_JOBS.state, func.count()).where(*recent).group_by(_JOBS.state)):
            ended[state] = count
        failed = select(func.count()).where(
            *recent, _JOBS.state == str(JobState.FAILED), _JOBS.stage == str(Stage.PUBLISH)
        )
        return JobMetrics(
            jobs={str(state): found.get(str(state), 0) for state in JobState},
            oldest_queued_seconds=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
            shortest_lease_seconds=None if lease is None else (lease - now).total_seconds(),
            unsent_messages=connection.execute(unsent).scalar_one(),
            workers_alive=connection.execute(alive).scalar_one(),
            workers_unfit=connection.execute(unfit).scalar_one(),
            ended=ended,
            publish_failures=connection.execute(failed).scalar_one(),
            wall_seconds=_wall_seconds(connection, since, now),
            stage_seconds=_stage_seconds(connection, since),
        )


def _wall_seconds(connection: Connection, since: datetime, now: datetime) -> float:
    has_ended = and_(_JOBS.state.in_(_TERMINAL), _JOBS.finished_at > since)
    query = select(_JOBS.started_at, _JOBS.finished_at).where(
        or_(has_ended, _JOBS.state.in_(_HELD)), _JOBS.started_at.is_not(None)
    )
    spans = ((max(started, since), finished or now) for started, finished in connection.execute(query))
    return float(sum(max(0.0, (until - begun).total_seconds()) for begun, until in spans))


def _stage_seconds(connection: Connection, since: datetime) -> Mapping[str, float]:
    query = (
        select(_JOBS.id, tables.job_reports.c.report)
        .join(tables.jobs, _JOBS.id == tables.job_reports.c.job_id)
        .where(_JOBS.state == str(JobState.SUCCEEDED), _JOBS.finished_at > since, _JOBS.kind == "compress")
        .order_by(_JOBS.finished_at.desc())
        .limit(_RECENT_JOBS)
    )
    times: dict[str, list[float]] = defaultdict(list)
    for job_id, report in connection.execute(query):
        try:
            of_job = {str(stage): float(seconds) for stage, seconds in report["seconds"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            _log.warning("row_unreadable", what="report", id=job_id)
            continue
        for stage, seconds in of_job.items():
            times[stage].append(seconds)
    return {stage: sum(seconds) / len(seconds) for stage, seconds in times.items()}
