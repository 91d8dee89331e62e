"""Who is calling, and what they may do."""

from dataclasses import dataclass
from datetime import UTC, datetime

from service.accounts import Account
from service.jobs.policy import USAGE_WINDOW
from service.jobs.ports import JobReading
from service.jobs.schema import Usage
from service.keys.access import require_quota
from service.keys.errors import MissingScopeError
from service.keys.schema import Quota, Scope


@dataclass(frozen=True)
class Caller:
    """Who is asking. Jobs of other owners do not exist for them."""

    owner: str
    scopes: tuple[Scope, ...]
    quota: Quota | None = None
    """None for the local user, who shares this machine with nobody."""
    key_id: str | None = None
    key_expires_at: datetime | None = None
    """When the key they come with ends; None for never, and for whoever needs none."""
    account: Account | None = None
    """The account of the Hub they have signed in with, if it was one."""

    def require(self, scope: Scope) -> None:
        """Raise MissingScopeError unless the caller may do this."""
        if scope not in self.scopes:
            raise MissingScopeError(f"this needs the scope {scope!r}; you have {', '.join(self.scopes) or 'none'}")

    def admit(self, usage: Usage) -> None:
        """Raise QuotaExceededError when, having this, they may not have one more job."""
        if self.quota is not None:
            require_quota(self.quota, usage)

    def require_room(self, store: JobReading) -> None:
        """Raise QuotaExceededError when one more job would be too many by now; storing it asks again."""
        self.admit(store.usage(self.owner, since=datetime.now(UTC) - USAGE_WINDOW))
