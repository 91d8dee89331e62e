"""Looking before leaping: a model's facts, and everything that would stop a job."""

from http import HTTPStatus

from fastapi import APIRouter

from service.api.job_bodies import AnyJobCreate
from service.api.schemas import InspectBody
from service.edge.dependencies import JobReader, ServicesDep
from service.edge.problems import problem_responses
from service.submissions.preflight import inspect_model, validate
from service.submissions.schema import ModelResource, Validation

router = APIRouter(prefix="/v1")
_HUB = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)


@router.post(
    "/models:inspect",
    operation_id="inspectModel",
    summary="Look at a model",
    tags=["models"],
    responses=problem_responses(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        *_HUB,
    ),
)
def inspect(body: InspectBody, caller: JobReader, services: ServicesDep) -> ModelResource:
    """Resolve a revision and read the headers of the weights; no weight is downloaded."""
    token = body.hub_token.get_secret_value() if body.hub_token else None
    return inspect_model(
        services.hubs, body.model_id, body.revision, tenant=services.tenancy.of(caller.owner), token=token
    )


@router.post(
    "/jobs:validate",
    operation_id="validateJob",
    summary="Find out what a job would do",
    tags=["jobs"],
    responses=problem_responses(
        HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY, *_HUB
    ),
)
def validate_job(body: AnyJobCreate, caller: JobReader, services: ServicesDep) -> Validation:
    """Run every check that a job would meet, and change nothing. A job that would fail is still a 200 here."""
    token = body.hub_token.get_secret_value() if body.hub_token else None
    return validate(
        body.work(),
        services.hubs,
        services.store,
        services.fleet,
        tenant=services.tenancy.of(caller.owner),
        texts=services.uploads.of(caller.owner),
        token=token,
    )
