"""The pictures of a report as files: a drawing that stands alone, or the numbers behind it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from service.edge.dependencies import OwnedJob, StoreDep
from service.jobs.errors import ReportNotReadyError
from service.jobs.reports import job_report
from service.web.earlier_results import earlier_results
from srr_core.report import Report
from srr_core.telling.frontier import Earlier
from srr_core.telling.gallery import pictures
from srr_core.telling.pictures import WIDE, Picture
from srr_core.telling.spectrum_picture import spectrum_picture

router = APIRouter(include_in_schema=False, default_response_class=Response)
_TYPES = {"svg": "image/svg+xml", "csv": "text/csv; charset=utf-8"}


@router.get("/jobs/{job_id}/report/picture")
def picture_file(
    job: OwnedJob,
    store: StoreDep,
    name: Literal["frontier", "size", "errors", "spectrum"] = "frontier",
    ending: Literal["svg", "csv"] = "svg",
    layer: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """Send one picture of a finished compression, to be kept; a page never shows it from here."""
    report = job_report(job, store.report(job.id))
    drawn = _drawn(report, earlier_results(job, store), layer) if isinstance(report, Report) else {}
    if name not in drawn:
        raise ReportNotReadyError(f"the report of job {job.id} has no picture {name}")
    content = drawn[name].svg() if ending == "svg" else drawn[name].csv()
    headers = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
    return Response(content, media_type=_TYPES[ending], headers=headers)


def _drawn(report: Report, earlier: Sequence[Earlier], layer: str) -> dict[str, Picture]:
    spectra = [spectrum_picture(one) for one in report.layers if one.name == layer]
    drawn = (*pictures(report, WIDE, earlier), *(one for one in spectra if one is not None))
    return {picture.name: picture for picture in drawn}
