"""The page on which a fine-tuning is asked for."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, status
from starlette.responses import Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import JobReader, JobWriter, Services, ServicesDep
from service.jobs.access import owned_job
from service.jobs.checkpoints import started_at
from service.jobs.errors import InvalidJobError
from service.jobs.schema import Job, JobSubmission
from service.jobs.work import FinetuneWork
from service.submissions.caller import Caller
from service.submissions.preflight import refused
from service.submissions.schema import ProblemNote, Validation
from service.web import finetune_form, submitting
from service.web.again import earlier_job, repeated
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep
from service.web.estimates import estimate_rows
from service.web.form_page import messages_of
from service.web.forms import FormError, SubmitForm, read_form, typed_values
from service.web.hub_access import brings_hub_access
from service.web.rendering import Pages, is_fragment
from srr_core.recipe.tuning_options import ARTIFACT

MAX_STEP = 10**9
router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.get("/finetune")
def finetune_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    source: Annotated[str, Query(alias="from")] = "",
    checkpoint: Annotated[int | None, Query(ge=1, le=MAX_STEP)] = None,
    publish: Annotated[bool, Query()] = False,
) -> Response:
    """Show the form, filled in like an earlier fine-tuning, or to go on from what an earlier job published.

    With a checkpoint of that job it goes on from there, or publishes it as it is.
    """
    if not source:
        values = typed_values(request.query_params, finetune_form.TEXT_FIELDS)
        return _show(request, pages, caller, services, values)
    job = owned_job(services.store, source, caller.owner)
    values = _values_of(job) if checkpoint is None else _values_at(job, checkpoint, publish=publish)
    return _show(request, pages, caller, services, values, again=job)


@router.post("/finetune")
async def submit_finetuning(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    return await submitting.take_form(
        request,
        pages,
        services,
        caller,
        fields=finetune_form.TEXT_FIELDS,
        files=finetune_form.FILE_FIELDS,
        make=_submission,
        refuse=lambda values, error: _show(request, pages, caller, services, values, messages=messages_of(error)),
    )


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
            earlier = earlier_job(form.values, services.store, caller.owner)
            wanted = repeated(_submission(form, earlier), earlier, services.store.text)
            validation = await submitting.check_work(wanted.work, request, services, caller, hub_token=form.hub_token)
        except (FormError, InvalidJobError, HubAccessEndedError) as error:
            messages = messages_of(error)
            code = getattr(error, "code", "invalid_form")
            validation = refused(*(ProblemNote(code=code, message=message) for message in messages.values()))
    if is_fragment(request):
        return pages.render(request, "checked_data.html", validation=validation, estimates=_estimates(validation))
    values = dict(form.values)
    return _show(request, pages, caller, services, values, messages=messages, validation=validation)


def _submission(form: SubmitForm, earlier: Job | None) -> JobSubmission:
    before = earlier.work if earlier is not None and isinstance(earlier.work, FinetuneWork) else None
    return finetune_form.submission(form, earlier=before)


def _values_of(job: Job) -> dict[str, str]:
    if isinstance(job.work, FinetuneWork):
        return finetune_form.values_of(job.work, job=job)
    # What another job made, and its own L·R.
    return dict.fromkeys(finetune_form.TEXT_FIELDS, "") | {
        "model_id": job.work.destination_id or job.work.source.model_id,
        "start": ARTIFACT if job.work.destination_id else "",
    }


def _estimates(validation: Validation | None) -> list[tuple[str, str]]:
    training = validation.training if validation is not None else None
    return estimate_rows(training) if training is not None else []


def _values_at(job: Job, step: int, *, publish: bool) -> dict[str, str]:
    values = finetune_form.values_of(started_at(job, step), job=job)
    return values | {"repo_id": "", **({"max_steps": "0"} if publish else {})}


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
        estimates=_estimates(validation),
        starts=finetune_form.START_WORDS,
        tasks=finetune_form.TASKS,
        formats=finetune_form.FORMATS,
        results=finetune_form.RESULTS,
        again=again,
        has_hub_access=brings_hub_access(caller, services),
    )
