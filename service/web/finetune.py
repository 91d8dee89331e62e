"""The page on which a fine-tuning is asked for."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, status
from starlette.responses import Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import JobReader, JobWriter, Services, ServicesDep
from service.hub.errors import HubUnavailableError
from service.jobs.access import owned_job
from service.jobs.errors import InvalidJobError
from service.jobs.schema import Job
from service.jobs.work import FinetuneWork
from service.platform.clock import utc_now
from service.submissions.caller import Caller
from service.submissions.preflight import refused, validate
from service.submissions.schema import ProblemNote, Validation
from service.web import finetune_form, submitting
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep
from service.web.form_page import messages_of
from service.web.forms import FormError, SubmitForm, read_form, typed_values
from service.web.hub_access import brings_hub_access, job_token
from service.web.rendering import Pages, is_fragment
from srr_core.recipe.tuning_options import ARTIFACT

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.get("/finetune")
def finetune_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    source: Annotated[str, Query(alias="from")] = "",
) -> Response:
    """Show the form, filled in like an earlier fine-tuning, or to go on from what an earlier job published."""
    if not source:
        values = typed_values(request.query_params, finetune_form.TEXT_FIELDS)
        return _show(request, pages, caller, services, values)
    job = owned_job(services.store, source, caller.owner)
    return _show(request, pages, caller, services, _values_of(job), again=job)


@router.post("/finetune")
async def submit_finetuning(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    began = utc_now()
    fields, files = finetune_form.TEXT_FIELDS, finetune_form.FILE_FIELDS
    async with request.form(max_files=len(files), max_part_size=submitting.MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        form = SubmitForm(values=typed_values(data, fields), texts={})
        try:
            form = await read_form(data, fields=fields, files=files)
            return await submitting.submit_form(
                request,
                services,
                caller,
                finetune_form.submission(form),
                hub_token=form.hub_token,
                force=bool(form.values["force"]),
                began=began,
            )
        except submitting.REFUSALS as error:
            return _show(request, pages, caller, services, dict(form.values), messages=messages_of(error))


@router.post("/finetune/check")
async def check_finetuning(request: Request, pages: PagesDep, caller: JobReader, services: ServicesDep) -> Response:
    """Show what the rows are and what would be learned of them, and submit nothing."""
    fields, files = finetune_form.TEXT_FIELDS, finetune_form.FILE_FIELDS
    async with request.form(max_files=len(files), max_part_size=submitting.MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        form = SubmitForm(values=typed_values(data, fields), texts={})
        messages: dict[str, str] = {}
        try:
            form = await read_form(data, fields=fields, files=files)
            work = finetune_form.submission(form).work
            token = job_token(form.hub_token, request, caller, services).text
            validation = await run_sync(
                lambda: validate(
                    work,
                    services.hubs,
                    services.store,
                    services.fleet,
                    tenant=services.tenancy.of(caller.owner),
                    texts=services.uploads.of(caller.owner),
                    token=token,
                )
            )
        except (FormError, InvalidJobError, HubAccessEndedError) as error:
            messages = messages_of(error)
            code = getattr(error, "code", "invalid_form")
            validation = refused(*(ProblemNote(code=code, message=message) for message in messages.values()))
        except HubUnavailableError as error:
            validation = refused(ProblemNote(code=error.code, message=str(error)))
    if is_fragment(request):
        return pages.render(request, "checked_data.html", validation=validation)
    values = dict(form.values)
    return _show(request, pages, caller, services, values, messages=messages, validation=validation)


def _values_of(job: Job) -> dict[str, str]:
    if isinstance(job.work, FinetuneWork):
        return finetune_form.values_of(job.work)
    # What another job made, and its own L·R.
    return dict.fromkeys(finetune_form.TEXT_FIELDS, "") | {
        "model_id": job.work.destination_id or job.work.source.model_id,
        "start": ARTIFACT if job.work.destination_id else "",
    }


def _show(
    request: Request,
    pages: Pages,
    caller: Caller,
    services: Services,
    values: dict[str, str],
    *,
    messages: dict[str, str] | None = None,
    validation: Validation | None = None,
    again: Job | None = None,
) -> Response:
    return pages.render(
        request,
        "finetune.html",
        status=status.HTTP_422_UNPROCESSABLE_CONTENT if messages else status.HTTP_200_OK,
        values=values,
        messages=messages or {},
        validation=validation,
        starts=finetune_form.START_WORDS,
        tasks=finetune_form.TASKS,
        formats=finetune_form.FORMATS,
        results=finetune_form.RESULTS,
        again=again,
        has_hub_access=brings_hub_access(caller, services),
    )
