"""The pages: submit a model, watch it, read what came of it. They work without JavaScript."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, status
from starlette.responses import RedirectResponse, Response

from service.accounts.errors import HubAccessEndedError
from service.api.dependencies import JobReader, JobWriter, OwnedJob, ServicesDep, StoreDep
from service.api.model_schemas import ProblemNote
from service.api.preflight import refused, validate
from service.jobs.cancel import cancel
from service.jobs.errors import InvalidJobError, JobError
from service.jobs.retry import retry
from service.jobs.schema import EventKind, Job, JobEvent, JobFilter, JobState
from service.jobs.store import JobStore
from service.jobs.submit import submit
from service.keys.errors import QuotaExceededError
from service.web.comparing import candidates, scatter_chart
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token
from service.web.form_page import PREVIEW_SHAPE, FormPage, messages_of, preview_of
from service.web.forms import FormError, SubmitForm, read_form, submission, typed_values
from service.web.hub_access import job_token
from service.web.views import STATE_LABELS, JobView, job_view
from srr_core.recipe import DEFAULT_RECIPE, PRESETS

router = APIRouter(include_in_schema=False, default_response_class=Response)

JOBS_PER_PAGE = 25
COMPARED_JOBS = 50
MAX_FORM_TEXT_BYTES = 16 * 1024 * 1024
_EVENTS_PER_READ = 500
# Progress events are the many; the job itself says how far it is.
_SHOWN_KINDS: tuple[EventKind, ...] = ("state", "layer", "log")


@router.get("/")
def submit_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    services: ServicesDep,
    source: Annotated[str, Query(alias="from")] = "",
) -> Response:
    """Show the submit form, filled in like an earlier job when one is named."""
    values = typed_values(request.query_params)
    if source:
        job = services.store.get(source)
        if job.owner == caller.owner:
            values |= {"model_id": job.source.model_id, "revision": job.source.revision, "recipe": job.recipe.name}
    return FormPage(request, pages, caller, services).show(values)


@router.get("/preview")
def preview(request: Request, pages: PagesDep) -> Response:
    """Show what the form as it stands would do. A fragment for the form page."""
    return pages.render(request, "preview.html", **preview_of(typed_values(request.query_params)))


@router.post("/check")
async def check_form(request: Request, pages: PagesDep, caller: JobReader, services: ServicesDep) -> Response:
    """Show what would become of the form, and submit nothing: a fragment for a script, otherwise the whole page."""
    async with request.form(max_files=2, max_part_size=MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        values = typed_values(data)
        typed = str(data.get("hub_token", "")).strip() or None
    page = FormPage(request, pages, caller, services)
    try:
        wanted = submission(SubmitForm(values=values, texts={}))
        token = job_token(typed, request, caller, services).text
        validation = await run_sync(
            lambda: validate(wanted, services.hubs, services.store, owner=caller.owner, token=token)
        )
    except (FormError, InvalidJobError, HubAccessEndedError) as error:
        if not is_fragment(request):
            return page.refuse(values, error)
        code = getattr(error, "code", "invalid_form")
        problems = [ProblemNote(code=code, message=message) for message in messages_of(error).values()]
        return pages.render(request, "check.html", validation=refused(*problems))
    if is_fragment(request):
        return pages.render(request, "check.html", validation=validation)
    return page.show(values, validation=validation)


@router.post("/jobs")
async def submit_form(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    page = FormPage(request, pages, caller, services)
    form = SubmitForm(values=typed_values({}), texts={})
    async with request.form(max_files=2, max_part_size=MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        form = SubmitForm(values=typed_values(data), texts={})
        try:
            form = await read_form(data)
            await run_sync(caller.require_room, services.store)
            token = job_token(form.hub_token, request, caller, services)
            job = await run_sync(
                lambda: submit(
                    submission(form),
                    owner=caller.owner,
                    store=services.store,
                    wake=services.wake,
                    vault=services.vault,
                    hub_token=token.text,
                    hub_token_expires_at=token.expires_at,
                )
            )
        except (FormError, JobError, QuotaExceededError, HubAccessEndedError) as error:
            return page.refuse(dict(form.values), error)
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
    token = job_token(None, request, caller, services)
    retry(
        job.id,
        owner=caller.owner,
        store=services.store,
        wake=services.wake,
        vault=services.vault,
        hub_token=token.text,
        hub_token_expires_at=token.expires_at,
    )
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
    return pages.render(request, "recipes.html", recipes=PRESETS.values(), default=DEFAULT_RECIPE, shape=PREVIEW_SHAPE)


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
