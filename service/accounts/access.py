"""The access to the Hub that comes with a sign-in: sealed for the browser, and for how long it is good for a job."""

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.jobs.credentials import CredentialVault
from service.jobs.errors import CredentialError
from service.jobs.schema import SealedSecret

JOB_ALLOWANCE = timedelta(hours=2)
"""A job that is submitted later than so long before the access ends might not publish in time.

A heuristic: most jobs take minutes, nobody knows how long the queue is, and signing in again is one click.
"""
_NO_EXPIRY = datetime(9999, 1, 1, tzinfo=UTC)
"""The access knows its own end; the seal adds none."""


class HubAccess(BaseModel):
    """A Hub token that a person gave us by signing in."""

    model_config = ConfigDict(frozen=True)

    owner: str
    token: str = Field(min_length=1, repr=False)
    expires_at: datetime
    renew_at: datetime
    """From then on no job is given it: sign in again."""

    @classmethod
    def granted(cls, token: str, *, owner: str, lifetime: timedelta, now: datetime) -> "HubAccess":
        """Return an access that begins now. Of a short one, half can be used."""
        return cls(
            owner=owner,
            token=token,
            expires_at=now + lifetime,
            renew_at=now + max(lifetime - JOB_ALLOWANCE, lifetime / 2),
        )


def seal_access(access: HubAccess, vault: CredentialVault) -> str:
    """Return an access as a text that only this installation can read."""
    return vault.seal(access.model_dump_json()).ciphertext.decode("ascii")


def open_access(sealed: str, vault: CredentialVault, *, owner: str) -> HubAccess | None:
    """Return what was sealed for an owner, or None when it is not readable, forged, or somebody else's."""
    try:
        text = vault.open(SealedSecret(ciphertext=sealed.encode(), expires_at=_NO_EXPIRY))
        access = HubAccess.model_validate_json(text)
    except (CredentialError, ValidationError):
        return None
    return access if access.owner == owner else None
