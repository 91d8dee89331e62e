"""The page of the workers: who computes, what waits, and what does not answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, status
from prometheus_client.core import Metric
from starlette.responses import RedirectResponse, Response

from service.edge.dependencies import CallerDep, ServicesDep
from service.jobs.errors import JobNotFoundError
from service.jobs.ports import JobReading
from service.jobs.schema import Job, JobFilter, JobState
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.clock import utc_now
from service.platform.errors import UnreadableError
from service.web.dependencies import PagesDep

router = APIRouter(include_in_schema=False, default_response_class=Response)
_HELD = (JobState.RUNNING, JobState.PUBLISHING, JobState.CANCELING)
_SHOWN_JOBS = 50


@dataclass(frozen=True)
class WorkerRow:
    """One worker, and its job if the reader may see that."""

    worker: Worker
    is_alive: bool
    silent_seconds: float
    job: Job | None


@dataclass(frozen=True)
class QueueView:
    """The numbers of the queue; None where the part of the installation that knows does not answer."""

    waiting: float | None
    oldest_seconds: float | None
    running: float | None
    unsent: float | None
    broker_messages: float | None
    lease_seconds: float | None
    down: tuple[str, ...]


@router.get("/workers")
def workers_page(request: Request, pages: PagesDep, caller: CallerDep, services: ServicesDep) -> Response:
    """Show the workers, the queue, and the jobs of the caller that are at work or wait."""
    now = utc_now()
    # The registry lives in the database that every store of the installation is in.
    registry = WorkerRegistry(services.notifications.engine)
    workers = [worker_row(worker, services.store, owner=caller.owner, now=now) for worker in registry.list()]
    queue = queue_view(services.metrics.collect())
    held = JobFilter(owner=caller.owner, states=_HELD)
    waiting = JobFilter(owner=caller.owner, states=(JobState.QUEUED,))
    return pages.render(
        request,
        "workers.html",
        workers=workers,
        alive=sum(row.is_alive for row in workers),
        queue=queue,
        running=services.store.list(held, limit=_SHOWN_JOBS).jobs,
        waiting=services.store.list(waiting, limit=_SHOWN_JOBS).jobs,
    )


@router.get("/queue")
def old_address() -> Response:
    """Lead to where the queue is shown now."""
    return RedirectResponse("/workers", status.HTTP_308_PERMANENT_REDIRECT)


def worker_row(worker: Worker, store: JobReading, *, owner: str, now: datetime) -> WorkerRow:
    """Return a worker as its row shows it; a job of another owner is not told."""
    job = None
    if worker.job_id is not None:
        try:
            found = store.get(worker.job_id)
            job = found if found.owner == owner else None
        except (JobNotFoundError, UnreadableError):
            job = None
    silent = max((now - worker.seen_at).total_seconds(), 0.0)
    return WorkerRow(worker=worker, is_alive=worker.is_alive(now=now), silent_seconds=silent, job=job)


def queue_view(families: Iterable[Metric]) -> QueueView:
    """Return the numbers that operators are alarmed by: the same that Prometheus gets."""
    numbers: dict[str, float] = {}
    parts: Mapping[str, float] = {}
    for family in families:
        if family.name == "srr_up":
            parts = {sample.labels["part"]: sample.value for sample in family.samples}
        elif len(family.samples) == 1 and not family.samples[0].labels:
            numbers[family.name] = family.samples[0].value
    return QueueView(
        waiting=numbers.get("srr_queue_depth"),
        oldest_seconds=numbers.get("srr_queue_oldest_seconds"),
        running=numbers.get("srr_jobs_running"),
        unsent=numbers.get("srr_outbox_unsent"),
        broker_messages=numbers.get("srr_broker_messages"),
        lease_seconds=numbers.get("srr_lease_remaining_seconds"),
        down=tuple(part for part, value in parts.items() if not value),
    )
