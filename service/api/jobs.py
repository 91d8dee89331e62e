"""Jobs over REST: submit, list, look, cancel, retry."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, status

from service.api.job_bodies import AnyJobCreate
from service.api.schemas import JobList, JobResource, RetryBody, job_resource
from service.edge.dependencies import JobIdPath, JobReader, JobWriter, OwnedJob, ServicesDep, StoreDep
from service.edge.problems import problem_responses
from service.jobs.cancel import cancel
from service.jobs.destinations import same_destination
from service.jobs.retry import retry
from service.jobs.schema import JobFilter, JobState
from service.jobs.work import RepoId
from service.submissions.submission import submit_checked

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

POLL_SECONDS = 2
"""How long a client that polls should wait; a job takes minutes, and events are there for the impatient."""
_NOT_FOUND = (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Any text of your choice. The same key and body within a day return the first job again.",
    ),
]


@router.post(
    "",
    operation_id="createJob",
    summary="Compress, evaluate, fine-tune or convert a model",
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}}},
        **problem_responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ),
    },
)
def create_job(
    body: AnyJobCreate,
    caller: JobWriter,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobResource:
    """Run the checks of `POST /v1/jobs:validate`, queue the job and answer at once.

    Several obstacles are all in `errors`. A Hub that does not answer stops nothing: the answer says in `unchecked` what
    was not asked, and the worker checks it before it downloads anything. Nor does a job of yours that has not ended and
    publishes to the same repository: `same_destination` names it.
    """
    job = submit_checked(
        body.submission(),
        services,
        caller,
        hub_token=body.hub_token.get_secret_value() if body.hub_token else None,
        idempotency_key=idempotency_key,
        force=body.force,
    )
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = str(POLL_SECONDS)
    return job_resource(job, same_destination=same_destination(job, services.store))


@router.get(
    "",
    operation_id="listJobs",
    summary="List jobs, newest first",
    responses={
        200: {"headers": {"Link": {"schema": {"type": "string"}, "description": "The next page, as `rel=next`."}}},
        **problem_responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY),
    },
)
def list_jobs(
    request: Request,
    response: Response,
    caller: JobReader,
    store: StoreDep,
    state: Annotated[list[JobState] | None, Query(description="One or more states.")] = None,
    model_id: Annotated[RepoId | None, Query()] = None,
    kind: Annotated[str | None, Query(max_length=32, description="The kind of work.")] = None,
    recipe: Annotated[str | None, Query(max_length=64, description="The name of a recipe.")] = None,
    tag: Annotated[str | None, Query(max_length=64)] = None,
    created_after: Annotated[datetime | None, Query()] = None,
    created_before: Annotated[datetime | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> JobList:
    """Return one page. Every given filter must match."""
    wanted = JobFilter(
        owner=caller.owner,
        states=tuple(state or ()),
        model_id=model_id,
        kind=kind,
        recipe=recipe,
        tag=tag,
        created_after=created_after,
        created_before=created_before,
    )
    page = store.list(wanted, limit=limit, cursor=cursor)
    if page.next_cursor is not None:
        following = request.url.include_query_params(cursor=page.next_cursor)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return JobList(
        jobs=[job_resource(job) for job in page.jobs],
        unreadable=list(page.unreadable),
        next_cursor=page.next_cursor,
    )


@router.get("/{job_id}", operation_id="getJob", summary="Look at a job", responses=problem_responses(*_NOT_FOUND))
def get_job(job: OwnedJob, store: StoreDep) -> JobResource:
    """Return the job as it is now."""
    return job_resource(job, queue_position=store.queue_position(job.id), same_destination=same_destination(job, store))


@router.post(
    "/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(*_NOT_FOUND, HTTPStatus.CONFLICT),
)
def cancel_job(job_id: JobIdPath, caller: JobWriter, store: StoreDep) -> JobResource:
    """Stop a job. A queued one is canceled at once, a running one as soon as its worker has noticed."""
    return job_resource(cancel(job_id, owner=caller.owner, store=store))


@router.post(
    "/{job_id}/retry",
    operation_id="retryJob",
    summary="Try a failed or canceled job again",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(*_NOT_FOUND, HTTPStatus.CONFLICT),
)
def retry_job(
    job_id: JobIdPath, caller: JobWriter, services: ServicesDep, body: RetryBody | None = None
) -> JobResource:
    """Queue the next attempt; layers that an earlier one finished are used where they are kept.

    The Hub token of the job was deleted when it ended: send it again if the job says `needs_hub_token`.
    """
    token = body.hub_token.get_secret_value() if body and body.hub_token else None
    job = retry(
        job_id,
        owner=caller.owner,
        store=services.store,
        wake=services.wake,
        vault=services.vault,
        admit=caller.admit,
        hub_token=token,
    )
    return job_resource(job)
