"""The page on which an evaluation is asked for."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, status
from starlette.responses import Response

from service.edge.dependencies import JobReader, JobWriter, Services, ServicesDep
from service.jobs.access import owned_job
from service.jobs.schema import Job, JobSubmission
from service.jobs.work import EvaluateWork
from service.submissions.caller import Caller
from service.web import evaluate_form, submitting
from service.web.dependencies import PagesDep
from service.web.form_page import messages_of
from service.web.forms import SubmitForm, typed_values
from service.web.hub_access import brings_hub_access
from service.web.rendering import Pages

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.get("/evaluate")
def evaluate_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    source: Annotated[str, Query(alias="from")] = "",
) -> Response:
    """Show the form, filled in like an earlier evaluation, or to measure what an earlier job published."""
    if not source:
        values = typed_values(request.query_params, evaluate_form.TEXT_FIELDS)
        return _show(request, pages, caller, services, values)
    job = owned_job(services.store, source, caller.owner)
    return _show(request, pages, caller, services, _values_of(job), again=job)


@router.post("/evaluate")
async def submit_evaluation(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""

    def make(form: SubmitForm, earlier: Job | None) -> JobSubmission:
        before = earlier.work if earlier is not None and isinstance(earlier.work, EvaluateWork) else None
        return evaluate_form.submission(form, earlier=before)

    return await submitting.take_form(
        request,
        pages,
        services,
        caller,
        fields=evaluate_form.TEXT_FIELDS,
        files=evaluate_form.FILE_FIELDS,
        make=make,
        refuse=lambda values, error: _show(request, pages, caller, services, values, messages=messages_of(error)),
    )


def _values_of(job: Job) -> dict[str, str]:
    if isinstance(job.work, EvaluateWork):
        return evaluate_form.values_of(job.work, job=job)
    # What another job made, against what it was made from.
    made = EvaluateWork(
        source=job.work.source.model_copy(update={"model_id": job.work.destination_id, "revision": "main"}),
        reference=job.work.source,
    )
    return evaluate_form.values_of(made)


def _show(
    request: Request,
    pages: Pages,
    caller: Caller,
    services: Services,
    values: dict[str, str],
    *,
    messages: dict[str, str] | None = None,
    again: Job | None = None,
) -> Response:
    return pages.render(
        request,
        "evaluate.html",
        status=status.HTTP_422_UNPROCESSABLE_CONTENT if messages else status.HTTP_200_OK,
        values=values,
        messages=messages or {},
        kinds=evaluate_form.KINDS,
        options=evaluate_form.OPTIONS,
        again=again,
        has_hub_access=brings_hub_access(caller, services),
    )
