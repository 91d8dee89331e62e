"""The workers over REST, and how much waits for them."""

from datetime import datetime

from fastapi import APIRouter

from service.api.worker_schemas import WorkerList, WorkerResource
from service.edge.dependencies import JobReader, ServicesDep
from service.edge.problems import problem_responses
from service.jobs.workers import Worker
from service.platform.clock import utc_now

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", operation_id="listWorkers", summary="List workers", responses=problem_responses())
def list_workers(_caller: JobReader, services: ServicesDep) -> WorkerList:
    """Return who could run a job, and how many jobs wait."""
    now = utc_now()
    return WorkerList(
        workers=[worker_resource(worker, now=now) for worker in services.workers.list()],
        queue_depth=services.workers.queue_depth(),
    )


def worker_resource(worker: Worker, *, now: datetime) -> WorkerResource:
    """Return a worker as clients see it."""
    return WorkerResource(
        name=worker.name,
        host=worker.host,
        device=worker.device,
        version=worker.version,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        is_alive=worker.is_alive(now=now),
        is_busy=worker.job_id is not None,
        trouble=worker.trouble,
    )
