"""Which Hub token a job gets that is submitted on a page: the typed one, or the access that came with the sign-in."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.requests import Request

from service.accounts import HubAccess, open_access, seal_access
from service.accounts.errors import HubAccessEndedError, ProviderRefusedError
from service.edge.dependencies import Services
from service.jobs.credentials import CredentialVault, require_own_token
from service.submissions.caller import Caller
from service.web.cookies import ACCESS_COOKIE

_MAX_COOKIE = 3900
"""Characters of name and value; browsers drop a cookie above 4096 bytes with its attributes, without a word."""
_AGAIN = "Sign in again, or type a Hub token."


@dataclass(frozen=True)
class JobToken:
    """The Hub token a job gets; without a text, the worker uses its own."""

    text: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """None: not known."""


def brings_hub_access(caller: Caller, services: Services) -> bool:
    """Whether somebody has signed in in a way that lets their jobs publish."""
    return caller.account is not None and services.settings.keeps_hub_access


def job_token(typed: str | None, request: Request, caller: Caller, services: Services) -> JobToken:
    """Return the token for a job.

    Raises:
        HubAccessEndedError: the access of the session is gone, or will be before a job could publish.
        InvalidJobError: the caller must bring a token and typed none.
    """
    if typed is not None:
        return JobToken(typed)
    if not brings_hub_access(caller, services):
        require_own_token(caller.owner, None)
        return JobToken()
    access = open_access(request.cookies.get(ACCESS_COOKIE, ""), services.vault, owner=caller.owner)
    if access is None:
        raise HubAccessEndedError(f"The access to the Hub that you gave by signing in is gone. {_AGAIN}")
    if access.renew_at <= datetime.now(UTC):
        until = access.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise HubAccessEndedError(
            f"The access to the Hub that you gave by signing in ends at {until}, perhaps before this job could "
            f"publish. {_AGAIN}"
        )
    return JobToken(access.token, access.expires_at)


def access_cookie(access: HubAccess, vault: CredentialVault) -> str:
    """Return the cookie that keeps an access. Raises ProviderRefusedError when no browser would take it."""
    sealed = seal_access(access, vault)
    if len(ACCESS_COOKIE) + len(sealed) > _MAX_COOKIE:
        raise ProviderRefusedError(
            f"Hugging Face sent an access token of {len(access.token)} characters, too long to keep; sign in with an "
            "API key and type a Hub token."
        )
    return sealed
