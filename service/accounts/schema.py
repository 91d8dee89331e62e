"""People of the Hub as values."""

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.credentials import ACCOUNT_OWNER


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Identity(_Frozen):
    """Who somebody is, as the provider has proven it."""

    subject: str = Field(min_length=1, max_length=100)
    name: str = Field(min_length=1, max_length=100)
    organizations: tuple[str, ...] = ()
    """Names of those whose own conditions (MFA, SSO) this sign-in has met."""


class Account(_Frozen):
    """Somebody who has signed in and may stay; what a session remembers."""

    subject: str
    name: str
    admitted_by: str | None = None
    """The entry of the operator's list that let them in; None where anybody may come in."""

    @property
    def owner(self) -> str:
        """Who their jobs and keys belong to: the subject, because a name can be given up and taken by somebody else."""
        return f"{ACCOUNT_OWNER}{self.subject}"
