"""The report of a finished job, as JSON, as a page or as Markdown, whichever the client would rather have."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service.edge.dependencies import OwnedJob, ServicesDep
from service.edge.problems import problem_responses
from service.jobs.report_words import report_document
from service.jobs.reports import AnyReport, job_report
from srr_core.telling.document import to_markdown

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Format = Literal["json", "html", "markdown"]
_MEDIA_TYPES: dict[str, Format] = {
    "application/json": "json",
    "text/html": "html",
    "text/markdown": "markdown",
    "application/*": "json",
    "text/*": "html",
    "*/*": "json",
}


@router.get(
    "/{job_id}/report",
    operation_id="getJobReport",
    summary="Read the report of a finished job",
    response_class=Response,
    responses={
        200: {
            "model": AnyReport,
            "description": "`report.json` of an artifact, `evaluation.json` or `tuning.json`, or the same as a "
            "page or as Markdown.",
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "text/markdown": {"schema": {"type": "string"}},
            },
        },
        **problem_responses(
            HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
        ),
    },
)
def get_job_report(
    job: OwnedJob,
    request: Request,
    services: ServicesDep,
    format: Annotated[Format | None, Query(description="Instead of an Accept header.")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """Return what was done and how good it is."""
    wanted = format or preferred(accept)
    report = services.store.report(job.id)
    if wanted == "html":
        response = services.render_report(request, job, report)
    elif wanted == "markdown":
        response = Response(to_markdown(report_document(job_report(job, report))), media_type="text/markdown")
    else:
        response = JSONResponse(dict(report))
    response.headers["Vary"] = "Accept"
    return response


def preferred(accept: str) -> Format:
    """Return the format an Accept header prefers; the first of equals.

    Raises:
        HTTPException: 406, the header allows none of the three.
    """
    choices = [_choice(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    for media_type, quality in sorted(choices, key=lambda choice: -choice[1]):
        if quality > 0 and media_type in _MEDIA_TYPES:
            return _MEDIA_TYPES[media_type]
    raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, "a report is served as application/json, text/html or text/markdown")


def _choice(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return media_type, float(quality)
    except ValueError:
        return media_type, 0.0
