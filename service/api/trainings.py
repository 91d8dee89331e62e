"""How the training of a job goes: its metrics over steps, and its checkpoints."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query

from service.api.schemas import CheckpointList, JobResource, MetricSeries, PublishBody, TunedRunList, job_resource
from service.edge.dependencies import JobIdPath, JobReader, JobWriter, OwnedJob, ServicesDep
from service.edge.problems import problem_responses
from service.jobs.access import owned_job
from service.jobs.checkpoints import kept_checkpoints, publication
from service.jobs.schema import JobId
from service.jobs.trainings import MAX_POINTS
from service.jobs.tuned_runs import tuned_runs
from service.submissions.submission import submit_checked

router = APIRouter(tags=["jobs"])
MAX_STEP = 10**9
MAX_COMPARED = 20
_NOT_FOUND = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)


@router.get(
    "/v1/jobs:compare",
    operation_id="compareFinetunings",
    summary="Put fine-tunings beside each other",
    responses=_NOT_FOUND,
)
def compare_finetunings(
    caller: JobReader,
    services: ServicesDep,
    job: Annotated[list[JobId], Query(min_length=1, max_length=MAX_COMPARED, description="Ids of fine-tunings.")],
) -> TunedRunList:
    """Return start, learning rate, best metric and curves of each, finished or not."""
    jobs = [owned_job(services.store, job_id, caller.owner) for job_id in job]
    return TunedRunList(runs=tuned_runs(jobs, services.store, services.trainings.of))


@router.get(
    "/v1/jobs/{job_id}/metrics",
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
    "/v1/jobs/{job_id}/checkpoints",
    operation_id="listJobCheckpoints",
    summary="List the checkpoints of a training",
    responses=_NOT_FOUND,
)
def list_job_checkpoints(job: OwnedJob, services: ServicesDep) -> CheckpointList:
    """Return what was made durable, with its scores and its size; none for jobs that train nothing."""
    return CheckpointList(
        checkpoints=list(services.trainings.of(job.id).checkpoints), kept=list(kept_checkpoints(job, services.store))
    )


@router.post(
    "/v1/jobs/{job_id}/checkpoints/{step}/publish",
    operation_id="publishJobCheckpoint",
    summary="Publish a checkpoint by itself",
    status_code=HTTPStatus.ACCEPTED,
    responses=problem_responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY
    ),
)
def publish_job_checkpoint(
    job_id: JobIdPath,
    step: Annotated[int, Path(ge=1, le=MAX_STEP)],
    body: PublishBody,
    caller: JobWriter,
    services: ServicesDep,
) -> JobResource:
    """Queue a job that measures a kept checkpoint on the data of its fine-tuning and publishes it.

    It is a fine-tuning of no steps from that checkpoint, with the card and the report of one. The destination is a
    repository of its own: the result of the job stays what it is.
    """
    job = owned_job(services.store, job_id, caller.owner)
    submission = publication(
        job,
        step,
        destination=body.destination,
        kept=kept_checkpoints(job, services.store),
        read_text=services.store.text,
    )
    token = body.hub_token.get_secret_value() if body.hub_token else None
    return job_resource(submit_checked(submission, services, caller, hub_token=token))
