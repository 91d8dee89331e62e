"""Which Hub token a job may use where: its own everywhere, the worker's only where that is lent to its owner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HubAccess:
    """The tokens of one job. Neither is ever printed."""

    own: str | None = field(default=None, repr=False)
    """The one it came with."""
    lent: str | None = field(default=None, repr=False)
    """The worker's; None unless it is needed and may be used."""
    lent_for: frozenset[str] = frozenset()
    """The repositories it may be used for, in lower case."""

    def token_for(self, repo_id: str) -> str | None:
        """Return the token to read or write a repository with; None: as anybody may."""
        if self.own is not None:
            return self.own
        return self.lent if repo_id.lower() in self.lent_for else None

    @classmethod
    def lending(cls, token: str | None, repositories: Sequence[str]) -> "HubAccess":
        """Return the access of a job that brought no token; without a repository it is given none."""
        lent_for = frozenset(repo_id.lower() for repo_id in repositories)
        return cls(lent=token, lent_for=lent_for) if token is not None and lent_for else cls()

    def to_message(self) -> dict[str, Any]:
        """Return what the job's process is told through its pipe."""
        return {"own": self.own, "lent": self.lent, "lent_for": sorted(self.lent_for)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "HubAccess":
        """Return what a job's process was told."""
        return cls(own=message["own"], lent=message["lent"], lent_for=frozenset(message["lent_for"]))
