"""What a watch may see and where its jobs may go: they run while nobody is there to bring a Hub token."""

from dataclasses import dataclass

from service.hub.releases import HubReleases
from service.jobs.tenancy import Tenancy
from service.releases.schema import Watch


@dataclass(frozen=True)
class WatchRights:
    """The rights of the owners of watches, over the tokens of the service itself."""

    tenancy: Tenancy
    token: str | None = None
    """The service's own token, to look at watched models with; used where the worker's is lent to the owner."""
    publishes_to_folder: bool = True
    """Whether artifacts go to the operator's folder, which knows no tokens."""

    def token_of(self, watch: Watch) -> str | None:
        """Return the token to look at the models of a watch with; None: as anybody sees them."""
        return self.token if self.tenancy.of(watch.owner).loan.covers(watch.pattern) else None

    def seen(self, hub: HubReleases, watch: Watch) -> HubReleases:
        """Return the listings of a hub without what is private to other owners."""
        return hub.seen_by(self.tenancy.of(watch.owner).sees_local)

    def require_destination(self, owner: str, repo_id: str) -> None:
        """Raise HubTokenNeededError where a job of this owner could not publish without a token of its own."""
        if not self.publishes_to_folder:
            self.tenancy.of(owner).require_loan(repo_id)
