"""How the training of a job goes: its metrics over steps, and its checkpoints."""

from http import HTTPStatus

from fastapi import APIRouter

from service.api.schemas import CheckpointList, MetricSeries
from service.edge.dependencies import OwnedJob, ServicesDep
from service.edge.problems import problem_responses
from service.jobs.trainings import MAX_POINTS

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_NOT_FOUND = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)


@router.get(
    "/{job_id}/metrics",
    operation_id="getJobMetrics",
    summary="Read how a training goes",
    description="Training and validation loss, learning rate, gradient norm and tokens per second over steps. A series "
    f"has at most {MAX_POINTS} points: neighbours of a longer one are merged into their means. Empty for other jobs.",
    responses=_NOT_FOUND,
)
def get_job_metrics(job: OwnedJob, services: ServicesDep) -> MetricSeries:
    """Return the series so far."""
    record = services.trainings.of(job.id)
    return MetricSeries(steps=record.steps, trainings=record.total, cells=list(record.cells))


@router.get(
    "/{job_id}/checkpoints",
    operation_id="listJobCheckpoints",
    summary="List the checkpoints of a training",
    responses=_NOT_FOUND,
)
def list_job_checkpoints(job: OwnedJob, services: ServicesDep) -> CheckpointList:
    """Return what was made durable, with its scores and its size; none for jobs that train nothing."""
    return CheckpointList(checkpoints=list(services.trainings.of(job.id).checkpoints))
