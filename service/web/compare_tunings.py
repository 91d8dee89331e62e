"""The page that puts fine-tunings beside each other."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.edge.dependencies import JobReader, ServicesDep
from service.jobs.access import owned_job
from service.jobs.schema import JobFilter, JobId
from service.jobs.tuned_runs import tuned_runs
from service.web.charts import NARROW, WIDE
from service.web.comparing_tunings import MAX_SHOWN, runs_chart
from service.web.dependencies import PagesDep

router = APIRouter(include_in_schema=False, default_response_class=Response)
_LISTED = 50


@router.get("/compare/finetunings")
def compare_finetunings_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    job: Annotated[list[JobId] | None, Query(max_length=_LISTED)] = None,
) -> Response:
    """Show the chosen fine-tunings, or the latest ones of the latest model; the others of the list can be added."""
    store = services.store
    listed = list(store.list(JobFilter(owner=caller.owner, kind="finetune"), limit=_LISTED).jobs)
    chosen = [owned_job(store, job_id, caller.owner) for job_id in dict.fromkeys(job or ())]
    if not chosen and listed:
        chosen = [one for one in listed if one.work.source.model_id == listed[0].work.source.model_id]
    shown = chosen[:MAX_SHOWN]
    known = {one.id for one in shown}
    runs = tuned_runs(shown, store, services.trainings.of)
    rows = {run.data_sha256 for run in runs if run.data_sha256 is not None}
    return pages.render(
        request,
        "compare_finetunings.html",
        runs=runs,
        others=[one for one in listed if one.id not in known],
        left_out=len(chosen) - len(shown),
        has_other_rows=len(rows) > 1,
        has_other_metrics=len({run.metric for run in runs}) > 1,
        charts=[runs_chart(runs, extent=extent) for extent in (WIDE, NARROW)] if runs else [],
    )
