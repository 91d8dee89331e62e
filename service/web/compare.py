"""The page that puts results of one model beside each other."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from service.edge.dependencies import JobReader, StoreDep
from service.jobs.access import owned_job
from service.jobs.schema import Job, JobFilter, JobId, JobState
from service.web.charts import NARROW, WIDE
from service.web.comparing import (
    ERROR,
    MEASURES,
    Measure,
    candidates,
    qualities,
    quality,
    scatter_chart,
    size_gaps,
)
from service.web.dependencies import PagesDep
from service.web.layer_differences import MAX_SHOWN, difference_charts, layer_rows

router = APIRouter(include_in_schema=False, default_response_class=Response)
MAX_COMPARED = 50
BaselineId = Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}:[a-z0-9-]{1,32}$")]
"""A job and the name of a method that ran beside it."""


@router.get("/compare")
def compare_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    store: StoreDep,
    model_id: Annotated[str, Query(max_length=96)] = "",
    job: Annotated[list[JobId] | None, Query(max_length=MAX_COMPARED)] = None,
    baseline: Annotated[list[BaselineId] | None, Query(max_length=MAX_COMPARED)] = None,
    by: Annotated[Measure, Query()] = "bits",
    metric: Annotated[str, Query(max_length=64)] = "",
    base: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the chosen results of one model side by side, or all of them; without a name, of the latest one.

    Layers are compared with those of `base`, or of the first result that is shown.
    """
    beside_jobs = [one.partition(":")[0] for one in baseline or ()]
    named = dict.fromkeys((*(job or ()), *beside_jobs))
    chosen = [owned_job(store, job_id, caller.owner) for job_id in named]
    done = JobFilter(owner=caller.owner, kind="compress", states=(JobState.SUCCEEDED,))
    latest = store.list(done, limit=MAX_COMPARED).jobs
    models = list(dict.fromkeys(one.work.source.model_id for one in (*chosen, *latest)))
    model = (chosen[0].work.source.model_id if chosen else model_id.strip()) or (models[0] if models else "")
    others = sorted({one.work.source.model_id for one in chosen} - {model})
    jobs = list(store.list(done.model_copy(update={"model_id": model}), limit=MAX_COMPARED).jobs) if model else []
    known = {one.id for one in jobs}
    mine = [one for one in chosen if one.work.source.model_id == model and _is_result(one)]
    jobs += [one for one in mine if one.id not in known]
    wanted = [*(one.id for one in mine if one.id in (job or ())), *(baseline or ())]
    found = candidates(jobs, [store.report(one.id) for one in jobs], chosen=wanted)
    shown = [one for one in found if one.is_chosen]
    measured = quality(shown, metric)
    whole = [one for one in shown if not one.baseline]
    first = next((one for one in whole if one.job.id == base), whole[0] if whole else None)
    beside = [one for one in whole if one is not first][:MAX_SHOWN]
    against = first or (shown[0] if shown else None)
    return pages.render(
        request,
        "compare.html",
        model_id=model,
        models=models,
        others=others,
        candidates=found,
        is_choice=bool(mine) or bool(baseline),
        quality=measured,
        qualities=qualities(shown),
        base=first,
        beside=beside,
        shown=shown,
        gaps=size_gaps(found, against),
        layers=layer_rows([one.report for one in (first, *beside)]) if first and beside else [],
        differences=difference_charts(first.report, [one.report for one in beside]) if first else [],
        by=by,
        metric=measured.metric or ERROR,
        measures=MEASURES,
        charts=[scatter_chart(shown, measured, measure=by, extent=extent) for extent in (WIDE, NARROW)],
    )


def _is_result(job: Job) -> bool:
    return job.work.kind == "compress" and job.state is JobState.SUCCEEDED
