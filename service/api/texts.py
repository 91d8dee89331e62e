"""Texts to calibrate on, to evaluate on and to learn from, uploaded by themselves."""

from http import HTTPStatus

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, status

from service.edge.dependencies import JobWriter, ServicesDep
from service.edge.gate import TEXTS_PATH
from service.edge.problems import problem_responses
from service.jobs.work import UploadedText

router = APIRouter(tags=["jobs"])
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The text itself, in UTF-8.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.post(
    TEXTS_PATH,
    operation_id="uploadText",
    summary="Upload a text",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=_BODY,
    responses=problem_responses(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS
    ),
)
async def upload_text(request: Request, caller: JobWriter, services: ServicesDep) -> UploadedText:
    """Keep a text for a week; jobs of yours name it as `{"sha256": ...}` wherever they take a text.

    Texts of up to a few hundred kilobytes may also be sent within the job.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return await run_sync(services.uploads.keep, caller.owner, bytes(body))
