"""The pages: submit a model, watch it, read what came of it. They work without JavaScript."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, status
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from service.api.dependencies import JobReader, JobWriter, OwnedJob, ServicesDep, StoreDep
from service.api.model_schemas import ProblemNote, Validation
from service.api.preflight import refused, validate
from service.api.submission import submit_checked
from service.hub.errors import HubError
from service.jobs.cancel import cancel
from service.jobs.errors import JobError
from service.jobs.retry import retry
from service.jobs.schema import EventKind, Job, JobEvent, JobFilter, JobState, JobSubmission
from service.jobs.store import JobStore
from service.keys.errors import QuotaExceededError
from service.web.comparing import candidates, scatter_chart
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token
from service.web.forms import (
    FormError,
    SubmitForm,
    chosen_recipe,
    default_destination,
    read_form,
    submission,
    typed_values,
)
from service.web.rendering import Pages
from service.web.views import STATE_LABELS, JobView, job_view
from srr_core.errors import UnsupportedModelError
from srr_core.recipe import DEFAULT_RECIPE, PRESETS

router = APIRouter(include_in_schema=False, default_response_class=Response)

JOBS_PER_PAGE = 25
COMPARED_JOBS = 50
MAX_FORM_TEXT_BYTES = 16 * 1024 * 1024
_EVENTS_PER_READ = 500
# Progress events are the many; the job itself says how far it is.
_SHOWN_KINDS: tuple[EventKind, ...] = ("state", "layer", "log")
# The layer whose bits per weight the preview tells: the attention of a 7B model, for instance.
_PREVIEW_SHAPE = (4096, 4096)


@router.get("/")
def submit_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    store: StoreDep,
    source: Annotated[str, Query(alias="from")] = "",
) -> Response:
    """Show the submit form, filled in like an earlier job when one is named."""
    values = typed_values(request.query_params)
    if source:
        job = store.get(source)
        if job.owner == caller.owner:
            values |= {"model_id": job.source.model_id, "revision": job.source.revision, "recipe": job.recipe.name}
    return _form_page(request, pages, values)


@router.get("/preview")
def preview(request: Request, pages: PagesDep) -> Response:
    """Show what the form as it stands would do. A fragment for the form page."""
    return pages.render(request, "preview.html", **_preview(typed_values(request.query_params)))


@router.post("/check")
async def check_form(request: Request, pages: PagesDep, caller: JobReader, services: ServicesDep) -> Response:
    """Show what would become of the form, and submit nothing: a fragment for a script, otherwise the whole page."""
    async with request.form(max_files=2, max_part_size=MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        values = typed_values(data)
        token = str(data.get("hub_token", "")).strip() or None
    try:
        wanted = _acknowledging(submission(SubmitForm(values=values, texts={})), data)
        validation = await run_sync(
            lambda: validate(wanted, services.hubs, services.store, services.fleet, owner=caller.owner, token=token)
        )
    except FormError as error:
        if is_fragment(request):
            problems = [ProblemNote(code="invalid_form", message=message) for message in error.messages.values()]
            return pages.render(request, "check.html", validation=refused(*problems))
        return _form_page(request, pages, values, error.messages)
    if is_fragment(request):
        return pages.render(request, "check.html", validation=validation)
    return _form_page(request, pages, values, validation=validation)


@router.post("/jobs")
async def submit_form(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    form = SubmitForm(values=typed_values({}), texts={})
    async with request.form(max_files=2, max_part_size=MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        form = SubmitForm(values=typed_values(data), texts={})
        try:
            form = await read_form(data)
            wanted, force = _acknowledging(submission(form), data), bool(data.get("force"))
            job = await run_sync(
                lambda: submit_checked(wanted, services, caller, hub_token=form.hub_token, force=force)
            )
        except FormError as error:
            return _form_page(request, pages, dict(form.values), error.messages)
        except (JobError, HubError, UnsupportedModelError, QuotaExceededError) as error:
            return _form_page(request, pages, dict(form.values), {"": str(error.__cause__ or error)})
    return RedirectResponse(f"/jobs/{job.id}", status.HTTP_303_SEE_OTHER)


@router.get("/jobs")
def jobs_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    store: StoreDep,
    state: Annotated[str, Query(max_length=20)] = "",
    model_id: Annotated[str, Query(max_length=96)] = "",
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """List jobs, newest first, by state and model if asked."""
    states = (JobState(state),) if state in set(JobState) else ()
    wanted = JobFilter(owner=caller.owner, states=states, model_id=model_id.strip() or None)
    page = store.list(wanted, limit=JOBS_PER_PAGE, cursor=cursor)
    following = request.url.include_query_params(cursor=page.next_cursor).query if page.next_cursor else None
    return pages.render(
        request,
        "jobs.html",
        jobs=page.jobs,
        next_query=following,
        states=STATE_LABELS,
        state=state,
        model_id=model_id,
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, pages: PagesDep, job: OwnedJob, store: StoreDep) -> Response:
    """Show one job."""
    return pages.render(request, "job.html", view=read_view(store, job))


@router.get("/jobs/{job_id}/live")
def job_fragment(request: Request, pages: PagesDep, job: OwnedJob, store: StoreDep) -> Response:
    """Show the part of a job's page that changes while it runs."""
    return pages.render(request, "job_live.html", view=read_view(store, job))


@router.post("/jobs/{job_id}/cancel")
def cancel_form(
    request: Request, pages: PagesDep, caller: JobWriter, store: StoreDep, job: OwnedJob, csrf_token: Token = ""
) -> Response:
    """Cancel a job and go back to its page."""
    pages.guard.check(request, csrf_token)
    cancel(job.id, owner=caller.owner, store=store)
    return RedirectResponse(f"/jobs/{job.id}", status.HTTP_303_SEE_OTHER)


@router.post("/jobs/{job_id}/retry")
def retry_form(
    request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep, job: OwnedJob, csrf_token: Token = ""
) -> Response:
    """Try a job again and go back to its page."""
    pages.guard.check(request, csrf_token)
    caller.require_room(services.store)
    retry(job.id, owner=caller.owner, store=services.store, wake=services.wake)
    return RedirectResponse(f"/jobs/{job.id}", status.HTTP_303_SEE_OTHER)


@router.get("/jobs/{job_id}/report")
def report_page(request: Request, pages: PagesDep, job: OwnedJob, store: StoreDep) -> Response:
    """Show the report of a finished job."""
    return pages.report(request, job, store.report(job.id))


@router.get("/compare")
def compare_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    store: StoreDep,
    model_id: Annotated[str, Query(max_length=96)] = "",
) -> Response:
    """Show the finished jobs of one model side by side; without a name, of the latest one."""
    done = JobFilter(owner=caller.owner, states=(JobState.SUCCEEDED,))
    latest = store.list(done, limit=COMPARED_JOBS).jobs
    models = list(dict.fromkeys(job.source.model_id for job in latest))
    chosen = model_id.strip() or (models[0] if models else "")
    jobs = store.list(done.model_copy(update={"model_id": chosen}), limit=COMPARED_JOBS).jobs if chosen else ()
    found = candidates(jobs, [store.report(job.id) for job in jobs])
    return pages.render(
        request, "compare.html", model_id=chosen, models=models, candidates=found, chart=scatter_chart(found)
    )


@router.get("/recipes")
def recipes_page(request: Request, pages: PagesDep) -> Response:
    """Show every recipe there is a name for."""
    return pages.render(request, "recipes.html", recipes=PRESETS.values(), default=DEFAULT_RECIPE, shape=_PREVIEW_SHAPE)


def read_view(store: JobStore, job: Job) -> JobView:
    """Return what the page of a job shows, read in batches."""
    events: list[JobEvent] = []
    while batch := store.events(
        job.id, after=events[-1].sequence if events else 0, limit=_EVENTS_PER_READ, kinds=_SHOWN_KINDS
    ):
        events.extend(batch)
    position = store.queue_position(job.id) if job.state is JobState.QUEUED else None
    return job_view(job, events, queue_position=position)


def is_fragment(request: Request) -> bool:
    """Whether a script asked, and only wants a part of the page."""
    return request.headers.get("HX-Request") == "true"


def _acknowledging(wanted: JobSubmission, data: FormData) -> JobSubmission:
    return wanted.model_copy(update={"acknowledge_license": bool(data.get("acknowledge_license"))})


def _form_page(
    request: Request,
    pages: Pages,
    values: dict[str, str],
    messages: dict[str, str] | None = None,
    validation: Validation | None = None,
) -> Response:
    status_code = status.HTTP_422_UNPROCESSABLE_CONTENT if messages else status.HTTP_200_OK
    values["recipe"] = values["recipe"] if values["recipe"] in PRESETS else DEFAULT_RECIPE
    return pages.render(
        request,
        "submit.html",
        status=status_code,
        values=values,
        messages=messages or {},
        recipes=PRESETS.values(),
        validation=validation,
        **_preview(values),
    )


def _preview(values: dict[str, str]) -> dict[str, Any]:
    try:
        recipe = chosen_recipe(values)
    except FormError as error:
        return {"recipe": None, "problem": str(error), "destination": None, "bits": None}
    model_id = values["model_id"]
    destination = values["repo_id"] or (default_destination(model_id, recipe) if model_id else None)
    return {
        "recipe": recipe,
        "problem": None,
        "destination": destination,
        "bits": recipe.bits_per_weight(*_PREVIEW_SHAPE),
    }
