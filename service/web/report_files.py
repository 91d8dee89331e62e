"""The pictures of a report as files: a drawing that stands alone, or the numbers behind it."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from service.edge.dependencies import OwnedJob, StoreDep
from service.jobs.errors import ReportNotReadyError
from service.jobs.reports import job_report
from srr_core.report import Report
from srr_core.telling.gallery import pictures

router = APIRouter(include_in_schema=False, default_response_class=Response)
_TYPES = {"svg": "image/svg+xml", "csv": "text/csv; charset=utf-8"}


@router.get("/jobs/{job_id}/report/picture")
def picture_file(
    job: OwnedJob,
    store: StoreDep,
    name: Literal["frontier", "size", "errors"] = "frontier",
    ending: Literal["svg", "csv"] = "svg",
) -> Response:
    """Send one picture of a finished compression, to be kept; a page never shows it from here."""
    report = job_report(job, store.report(job.id))
    drawn = {picture.name: picture for picture in pictures(report)} if isinstance(report, Report) else {}
    if name not in drawn:
        raise ReportNotReadyError(f"the report of job {job.id} has no picture {name}")
    content = drawn[name].svg() if ending == "svg" else drawn[name].csv()
    headers = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
    return Response(content, media_type=_TYPES[ending], headers=headers)
