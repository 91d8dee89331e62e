"""The pages: submit a model, watch it, read what came of it. They work without JavaScript."""

from functools import partial
from typing import Annotated
from urllib.parse import quote

from anyio.to_thread import run_sync
from fastapi import APIRouter, Form, Query, Request, status
from starlette.responses import RedirectResponse, Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import JobReader, JobWriter, OwnedJob, Services, ServicesDep, StoreDep
from service.hub.errors import InvalidRepoIdError
from service.hub.folder import MAIN
from service.jobs.access import owned_job
from service.jobs.cancel import cancel
from service.jobs.destinations import same_destination
from service.jobs.errors import InvalidJobError
from service.jobs.event_words import STATE_LABELS
from service.jobs.ports import JobReading
from service.jobs.reports import AnyReport, job_report
from service.jobs.retry import retry
from service.jobs.schema import EventKind, Job, JobEvent, JobFilter, JobState
from service.jobs.trainings import Trainings
from service.jobs.work import CompressWork
from service.platform.errors import UnreadableError
from service.web import (
    api_docs,
    choices,
    compare,
    compare_tunings,
    convert,
    evaluate,
    finetune,
    hub_models,
    report_files,
    submitting,
    usage,
    workers,
)
from service.web.again import base_of, earlier_job, values_of
from service.web.csrf import FIELD
from service.web.dependencies import PagesDep, Token
from service.web.earlier_results import earlier_results
from service.web.filtering import JobQuery
from service.web.form_page import PREVIEW_SHAPE, FormPage, namespace_of, preview_of
from service.web.forms import (
    FILE_FIELDS,
    TEXT_FIELDS,
    FormError,
    SubmitForm,
    chosen_recipe,
    submission,
    typed_values,
)
from service.web.hub_access import job_token
from service.web.job_rows import Listing, headings, is_order, list_jobs
from service.web.other_bits import Change, with_other_bits
from service.web.rendering import is_fragment
from service.web.result import result_view
from service.web.searching import MAX_SCANNED
from service.web.views import JobView, job_view
from service.web.whole_bits import whole_bits
from service.web.wording import FORMS
from srr_core.recipe import DEFAULT_RECIPE, PRESETS
from srr_core.report import Report

router = APIRouter(include_in_schema=False, default_response_class=Response)
for part in (
    api_docs,
    compare,
    compare_tunings,
    convert,
    evaluate,
    finetune,
    hub_models,
    report_files,
    workers,
    usage,
):
    router.include_router(part.router)

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
    bits: Change | None = None,
) -> Response:
    """Show the submit form, filled in like an earlier job when one is named, or with one bit more or less."""
    page = FormPage(request, pages, caller, services)
    if not source:
        return page.show(typed_values(request.query_params))
    job = owned_job(services.store, source, caller.owner)
    if not isinstance(job.work, CompressWork):
        return RedirectResponse(f"{FORMS[job.work.kind]}?from={job.id}")
    changed = None if bits is None else with_other_bits(job, job.work, bits, owner=namespace_of(caller))
    return page.show(changed or values_of(job, job.work), again=job)


@router.get("/preview")
def preview(request: Request, pages: PagesDep, caller: JobReader, services: ServicesDep) -> Response:
    """Show what the form as it stands would do. A fragment for the form page."""
    values = typed_values(request.query_params)
    base = base_of(earlier_job(values, services.store, caller.owner))
    bits = partial(whole_bits, values, request, services, caller)
    summary = preview_of(values, namespace_of(caller), base, bits)
    return pages.render(request, "preview.html", values=values, **summary)


@router.post("/check")
async def check_form(request: Request, pages: PagesDep, caller: JobReader, services: ServicesDep) -> Response:
    """Show what would become of the form, and submit nothing: a fragment for a script, otherwise the whole page."""
    async with request.form(max_files=2, max_part_size=submitting.MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        values = typed_values(data)
        typed = str(data.get("hub_token", "")).strip() or None
    page = FormPage(request, pages, caller, services)
    if is_fragment(request) and "/" not in values["model_id"].strip("/"):
        # Half a name is no mistake yet.
        return page.check(values, None)
    try:
        base = base_of(earlier_job(values, services.store, caller.owner))
        bits = partial(whole_bits, values, request, services, caller, hub_token=typed)
        form = SubmitForm(values=values, texts={})
        wanted = await run_sync(lambda: submission(form, owner=namespace_of(caller), base=base, bits=bits))
        validation = await submitting.check_work(wanted.work, request, services, caller, hub_token=typed)
    except (FormError, InvalidJobError, HubAccessEndedError) as error:
        return page.refuse_check(values, error)
    return page.check(values, validation, chosen_recipe(values, base=base))


@router.post("/jobs")
async def submit_form(request: Request, pages: PagesDep, caller: JobWriter, services: ServicesDep) -> Response:
    """Take the form and go to the page of the new job, or show the form again with what is wrong."""
    page = FormPage(request, pages, caller, services)
    return await submitting.take_form(
        request,
        pages,
        services,
        caller,
        fields=TEXT_FIELDS,
        files=FILE_FIELDS,
        make=lambda form, earlier: submission(
            form,
            owner=namespace_of(caller),
            base=base_of(earlier),
            bits=partial(whole_bits, form.values, request, services, caller, hub_token=form.hub_token),
        ),
        refuse=page.refuse,
    )


@router.get("/jobs")
def jobs_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    store: StoreDep,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    page: Annotated[int, Query(ge=1, le=MAX_SCANNED)] = 1,
) -> Response:
    """List jobs with what came of them: those that match the filters in the address, ordered as it says."""
    query = JobQuery.of(request.query_params)
    listing = list_jobs(store, query.filter(caller.owner), query.text, sort=query.sort, cursor=cursor, page=page)
    return pages.render(
        request,
        "jobs.html",
        listing=listing,
        scanned=MAX_SCANNED,
        query=query,
        next_query=_next_query(request, listing),
        headings=headings(query.sort),
        is_ordered=is_order(query.sort),
        states=STATE_LABELS,
        recipes=PRESETS,
    )


def _next_query(request: Request, listing: Listing) -> str | None:
    if listing.next_page is not None:
        return request.url.include_query_params(page=listing.next_page).query
    cursor = listing.found.next_cursor
    return None if cursor is None else request.url.include_query_params(cursor=cursor).query


@router.get("/jobs/{job_id}")
def job_page(
    request: Request,
    pages: PagesDep,
    caller: JobReader,
    job: OwnedJob,
    services: ServicesDep,
    same: Annotated[str, Query()] = "",
) -> Response:
    """Show one job."""
    return pages.render(
        request,
        "job.html",
        view=read_view(services.store, services.trainings, job, owner=namespace_of(caller)),
        source_url=_source_url(services, job),
        group=choices.group_size(job.work.recipe) if isinstance(job.work, CompressWork) else None,
        is_same=bool(same),
    )


@router.get("/jobs/{job_id}/live")
def job_fragment(
    request: Request, pages: PagesDep, caller: JobReader, job: OwnedJob, services: ServicesDep
) -> Response:
    """Show the part of a job's page that changes while it runs."""
    return pages.render(
        request, "job_live.html", view=read_view(services.store, services.trainings, job, owner=namespace_of(caller))
    )


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
    request: Request,
    pages: PagesDep,
    caller: JobWriter,
    services: ServicesDep,
    job: OwnedJob,
    hub_token: Annotated[str, Form(max_length=512)] = "",
    csrf_token: Token = "",
) -> Response:
    """Try a job again and go back to its page. Its Hub token was deleted when it ended, so it may be given again."""
    pages.guard.check(request, csrf_token)
    token = job_token(hub_token.strip() or None, request, caller, services)
    retry(
        job.id,
        owner=caller.owner,
        store=services.store,
        wake=services.wake,
        vault=services.vault,
        admit=caller.admit,
        hub_token=token.text,
        hub_token_expires_at=token.expires_at,
    )
    return RedirectResponse(f"/jobs/{job.id}", status.HTTP_303_SEE_OTHER)


@router.get("/jobs/{job_id}/report")
def report_page(
    request: Request,
    pages: PagesDep,
    job: OwnedJob,
    store: StoreDep,
    layer: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """Show the report of a finished job, of a compression with the singular values of one layer."""
    return pages.report(request, job, store.report(job.id), earlier_results(job, store), layer)


@router.get("/recipes")
def recipes_page(request: Request, pages: PagesDep) -> Response:
    """Show every recipe there is a name for."""
    return pages.render(request, "recipes.html", recipes=PRESETS.values(), default=DEFAULT_RECIPE, shape=PREVIEW_SHAPE)


def read_view(store: JobReading, trainings: Trainings, job: Job, *, owner: str) -> JobView:
    """Return what the page of a job shows, read in batches.

    Args:
        owner: Whose namespace an unnamed destination lies in.
    """
    events: list[JobEvent] = []
    while batch := store.events(
        job.id, after=events[-1].sequence if events else 0, limit=_EVENTS_PER_READ, kinds=_SHOWN_KINDS
    ):
        events.extend(batch)
    position = store.queue_position(job.id) if job.state is JobState.QUEUED else None
    report = _report_of(store, job)
    return job_view(
        job,
        events,
        queue_position=position,
        same_destination=same_destination(job, store),
        can_compare=_has_rivals(store, job),
        training=trainings.of(job.id) if job.work.kind == "finetune" else None,
        report=None if isinstance(report, Report) else report,
        result=result_view(job, job.work, report, owner=owner)
        if isinstance(report, Report) and isinstance(job.work, CompressWork)
        else None,
    )


def _report_of(store: JobReading, job: Job) -> AnyReport | None:
    """Return the report of a job, as far as this version can read it."""
    if not job.has_report:
        return None
    try:
        return job_report(job, store.report(job.id))
    except UnreadableError:
        return None  # the link to its JSON is there all the same


def _has_rivals(store: JobReading, job: Job) -> bool:
    if job.state is not JobState.SUCCEEDED or job.work.kind != "compress":
        return False
    wanted = JobFilter(
        owner=job.owner, kind="compress", states=(JobState.SUCCEEDED,), model_id=job.work.source.model_id
    )
    return len(store.list(wanted, limit=2).jobs) > 1


def _source_url(services: Services, job: Job) -> str | None:
    try:
        # Only a folder hub knows a commit without being asked over the network, and it has no pages.
        is_here = services.hubs.known_sha(job.work.source.model_id, MAIN) is not None
    except InvalidRepoIdError:
        return None
    revision = quote(job.work.source.sha or job.work.source.revision)
    return None if is_here else f"{services.hub_url}/{job.work.source.model_id}/tree/{revision}"
