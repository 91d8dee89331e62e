"""What every form does: read what was typed, check or queue it, and say what is wrong."""

from collections.abc import Callable, Sequence

from anyio.to_thread import run_sync
from fastapi import Request, status
from starlette.responses import RedirectResponse, Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import Services
from service.hub.errors import HubError, HubUnavailableError
from service.jobs.errors import JobError
from service.jobs.schema import Job, JobSubmission
from service.jobs.work import Work
from service.keys.errors import QuotaExceededError
from service.platform.clock import utc_now
from service.platform.errors import PlatformError
from service.submissions.caller import Caller
from service.submissions.preflight import refused, validate
from service.submissions.schema import ProblemNote, Validation
from service.submissions.submission import submit_checked
from service.web.again import earlier_job, repeated
from service.web.csrf import FIELD
from service.web.forms import FormError, SubmitForm, read_form, typed_values
from service.web.hub_access import job_token
from service.web.rendering import Pages
from srr_core.errors import SrrError

MAX_FORM_TEXT_BYTES = 16 * 1024 * 1024
REFUSALS = (FormError, QuotaExceededError, HubAccessEndedError, JobError, PlatformError, HubError, SrrError)
"""What a form is shown again for."""


Make = Callable[[SubmitForm, Job | None], JobSubmission]
"""Makes a submission of a form and of the caller's earlier job that it was filled in from."""
Refuse = Callable[[dict[str, str], Exception], Response]
"""Shows a form again with what was typed and one of REFUSALS."""


async def take_form(
    request: Request,
    pages: Pages,
    services: Services,
    caller: Caller,
    *,
    fields: Sequence[str],
    files: Sequence[str],
    make: Make,
    refuse: Refuse,
) -> Response:
    """Queue what a posted form asks for and go to the page of the job, or show the form again.

    An equal job of before is taken instead of a new one, and its page says so.
    """
    began = utc_now()
    async with request.form(max_files=len(files), max_part_size=MAX_FORM_TEXT_BYTES) as data:
        pages.guard.check(request, str(data.get(FIELD, "")))
        try:
            form = await read_form(data, fields=fields, files=files)
            earlier = earlier_job(form.values, services.store, caller.owner)
            # In a thread: the name of the result may ask a hub how large the model is.
            wanted = await run_sync(lambda: repeated(make(form, earlier), earlier, services.store.text))
            token = job_token(form.hub_token, request, caller, services)
            job = await run_sync(
                lambda: submit_checked(
                    wanted,
                    services,
                    caller,
                    hub_token=token.text,
                    hub_token_expires_at=token.expires_at,
                    force=bool(form.values["force"]),
                )
            )
        except REFUSALS as error:
            return refuse(typed_values(data, fields), error)
    is_earlier = job.created_at < began
    return RedirectResponse(f"/jobs/{job.id}{'?same=1' if is_earlier else ''}", status.HTTP_303_SEE_OTHER)


async def check_work(
    work: Work, request: Request, services: Services, caller: Caller, *, hub_token: str | None
) -> Validation:
    """Return what every check says of work that is not submitted; a hub that is away is one of the problems.

    Raises:
        InvalidJobError: the work contradicts itself.
        HubAccessEndedError: the caller's access to the Hub has ended.
    """
    token = job_token(hub_token, request, caller, services).text
    try:
        return await run_sync(
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
    except HubUnavailableError as error:
        return refused(ProblemNote(code=error.code, message=str(error)))
