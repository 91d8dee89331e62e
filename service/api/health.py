"""Probes and numbers for whatever keeps the process running. None of them ever calls the Hub."""

import structlog
from fastapi import APIRouter, Response, status
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.api.schemas import Health
from service.edge.dependencies import CallerDep, ServicesDep, StoreDep
from service.edge.problems import problem_responses
from service.platform.errors import StoreUnavailableError

router = APIRouter(tags=["health"])
_log = structlog.get_logger(__name__)


@router.get("/livez", operation_id="livez", summary="Is the process alive?")
async def livez() -> Health:
    """Answer without touching anything else: a slow database must not get the process killed."""
    return Health(status="ok")


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Numbers for Prometheus",
    response_class=PlainTextResponse,
    responses=problem_responses(),
)
def metrics(services: ServicesDep, _caller: CallerDep) -> Response:
    """Read the database and the broker; the answer is the same from every process."""
    return Response(generate_latest(services.metrics), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can the process do its work?",
    responses={503: {"model": Health, "description": "The database does not answer."}},
)
def readyz(store: StoreDep, services: ServicesDep, response: Response) -> Health:
    """Ask the database. A broker that is away only degrades: jobs are kept, and sent when it is back."""
    try:
        store.ping()
    except StoreUnavailableError as error:
        _log.warning("readiness_failed", code=error.code)
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", checks={"database": "does not answer"})
    if not services.broker_answers():
        waits = "does not answer; jobs are kept and sent when it is back, rates are counted by each process"
        return Health(status="degraded", checks={"database": "ok", "broker": waits})
    return Health(status="ok", checks={"database": "ok"})
