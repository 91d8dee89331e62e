"""Watches and the releases they found, as values."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.schema import JobId
from service.jobs.work import RepoId
from srr_core.recipe import Recipe

Glob = Annotated[str, Field(min_length=1, max_length=96, pattern=r"^[A-Za-z0-9*?][A-Za-z0-9*?._/-]*$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WatchRules(_Frozen):
    """What a watch looks for, and what it does about it."""

    name: str = Field(min_length=1, max_length=100)
    pattern: str = Field(
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9*?][A-Za-z0-9*?._-]*$",
        description="owner/model, where the model may hold * and ?; the owner may not.",
        examples=["org/model", "org/*"],
    )
    namespace: Literal["org", "user"] = Field(default="org", description="What the owner is, for the Hub's webhooks.")
    branches: tuple[Glob, ...] = Field(default=("main",), max_length=16)
    tags: tuple[Glob, ...] = Field(default=(), max_length=16)
    recipes: tuple[Recipe, ...] = Field(min_length=1, max_length=8)
    destination: str = Field(
        max_length=200,
        description="Template of the repository, of {owner}, {name}, {recipe}, {bits} of the codes, {total_bits} over "
        "the whole model and {ref}, as they stand.",
        examples=["our-org/{name}-{recipe}-{total_bits}bit"],
    )
    private: bool | None = None
    acknowledge_license: bool = Field(
        default=False, description="The terms of these models were read and allow this, whatever their cards state."
    )
    max_weight_bytes: int | None = Field(default=None, gt=0, description="Larger models are skipped.")
    per_day: int = Field(default=10, ge=1, le=10_000, description="Releases acted on in 24 hours; the rest waits.")
    enabled: bool = True

    @property
    def looks_at(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Which models, branches and tags."""
        return self.pattern, self.branches, self.tags


class Watch(WatchRules):
    """A standing order: compress what is released there."""

    id: str
    owner: str = Field(description="Who its jobs belong to.")
    created_at: datetime
    polled_at: datetime | None = Field(default=None, description="What changed up to then was looked at.")
    swept_at: datetime | None = Field(
        default=None, description="When all models were looked at, not only changed ones."
    )
    next_poll_at: datetime | None = None
    poll_failures: int = Field(default=0, description="How many polls in a row failed.")
    poll_error: str | None = Field(default=None, description="Why the last poll failed, or what it had to leave out.")

    @property
    def hub_owner(self) -> str:
        """The user or organization it watches."""
        return self.pattern.split("/", maxsplit=1)[0]


class Sweep(_Frozen):
    """A look at all models of a watch that is under way: it may take several polls."""

    began_at: datetime
    done_to: str = Field(default="", description="The last model that was looked at, in the order of names.")


class ReleaseState(StrEnum):
    """The outcome of a release."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    FAILED = "failed"


class Release(_Frozen):
    """One commit that a watched branch or tag came to point to. Seen twice, by whomever, it is still one."""

    id: str
    watch_id: str
    repo_id: RepoId
    ref: str = Field(description="refs/heads/... or refs/tags/...")
    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    seen_by: Literal["webhook", "poller"]
    state: ReleaseState = ReleaseState.PENDING
    reason: str | None = None
    job_ids: tuple[JobId, ...] = ()
    seen_at: datetime
    due_at: datetime
    decided_at: datetime | None = None


class Preview(_Frozen):
    """What a watch would have done about one release."""

    repo_id: str
    ref: str
    sha: str
    released_at: datetime
    destinations: tuple[str, ...]
    skipped: str | None = None
