"""The page on which a conversion is asked for."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, status
from starlette.responses import Response

from service.edge.dependencies import JobReader, JobWriter, Services, ServicesDep
from service.jobs.access import owned_job
from service.jobs.schema import Job
from service.jobs.work import ConvertWork
from service.submissions.caller import Caller
from service.web import convert_form, submitting
from service.web.dependencies import PagesDep
from service.web.form_page import messages_of, namespace_of
from service.web.forms import typed_values
from service.web.hub_access import brings_hub_access
from service.web.rendering import Pages

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.get("/convert")
def convert_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    source: Annotated[str, Query(alias="from")] = "",
    to: Annotated[str, Query(max_length=16)] = "",
) -> Response:
    """Show the form, filled in like an earlier conversion, or to convert what an earlier job published."""
    if not source:
        values = typed_values(request.query_params, convert_form.TEXT_FIELDS)
        return _show(request, pages, caller, services, values)
    job = owned_job(services.store, source, caller.owner)
    values = (
        convert_form.values_of(job.work, job=job)
        if isinstance(job.work, ConvertWork)
        else convert_form.values_for(job, to)
    )
    return _show(request, pages, caller, services, values, again=job)


@router.post("/convert")
async def submit_conversion(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    return await submitting.take_form(
        request,
        pages,
        services,
        caller,
        fields=convert_form.TEXT_FIELDS,
        files=(),
        make=lambda form, _: convert_form.submission(form, owner=namespace_of(caller)),
        refuse=lambda values, error: _show(request, pages, caller, services, values, messages=messages_of(error)),
    )


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
    values["target"] = (
        values["target"] if values["target"] in convert_form.TARGETS else next(iter(convert_form.TARGETS))
    )
    return pages.render(
        request,
        "convert.html",
        status=status.HTTP_422_UNPROCESSABLE_CONTENT if messages else status.HTTP_200_OK,
        values=values,
        messages=messages or {},
        targets=convert_form.TARGETS,
        forms_of_gguf=convert_form.GGUF_FORMS,
        dtypes=convert_form.DTYPES,
        again=again,
        has_hub_access=brings_hub_access(caller, services),
    )
