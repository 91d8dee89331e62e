"""What every form does with a submission that was read: queue it and go to its page, or have words for a refusal."""

from datetime import datetime

from anyio.to_thread import run_sync
from fastapi import Request, status
from starlette.responses import RedirectResponse, Response

from service.accounts.errors import HubAccessEndedError
from service.edge.dependencies import Services
from service.hub.errors import HubError
from service.jobs.errors import JobError
from service.jobs.schema import JobSubmission
from service.keys.errors import QuotaExceededError
from service.platform.errors import PlatformError
from service.submissions.caller import Caller
from service.submissions.submission import submit_checked
from service.web.forms import FormError
from service.web.hub_access import job_token
from srr_core.errors import SrrError

MAX_FORM_TEXT_BYTES = 16 * 1024 * 1024
REFUSALS = (FormError, QuotaExceededError, HubAccessEndedError, JobError, PlatformError, HubError, SrrError)
"""What a form is shown again for."""


async def submit_form(
    request: Request,
    services: Services,
    caller: Caller,
    wanted: JobSubmission,
    *,
    hub_token: str | None,
    force: bool,
    began: datetime,
) -> Response:
    """Queue a job and go to its page; says so there when it is an earlier one that does the same.

    Raises:
        Any of REFUSALS.
    """
    token = job_token(hub_token, request, caller, services)
    job = await run_sync(
        lambda: submit_checked(
            wanted, services, caller, hub_token=token.text, hub_token_expires_at=token.expires_at, force=force
        )
    )
    is_earlier = job.created_at < began
    return RedirectResponse(f"/jobs/{job.id}{'?same=1' if is_earlier else ''}", status.HTTP_303_SEE_OTHER)
