"""A job and its events, as values: frozen, serializable, the same on both edges. `work.py` says what a job is to do."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.numbers import JobNumbers
from service.jobs.work import Work
from srr_core.recipe.stages import Stage
from srr_core.recipe.verdicts import CompatibilityRow

JobId = Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobState(StrEnum):
    """Where a job is. `transitions.py` says what may follow what."""

    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHING = "publishing"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


JOB_SCHEMA_VERSION = 2
"""1 was a compression, flat. `upgrade.py` reads both."""
EVENT_SCHEMA_VERSION = 1
EventKind = Literal["state", "progress", "layer", "log", "metrics", "checkpoint", "data"]
"""The last three are of fine-tunings: rows of the training, a checkpoint that is durable, the report on its data."""
TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class SealedSecret(_Frozen):
    """A Hub token as it is stored: unreadable without the key, useless after `expires_at`."""

    ciphertext: bytes
    expires_at: datetime


class JobFailure(_Frozen):
    """Why a job failed, for people (`message`) and for programs (`code`)."""

    code: str
    message: str
    retryable: bool = False


class JobResult(_Frozen):
    """What a succeeded job left behind."""

    repo_id: str
    commit_sha: str
    commit_url: str
    runtimes: tuple[CompatibilityRow, ...] = Field(
        default=(), description="Servers on the worker that ran the published model; empty where none is installed."
    )
    numbers: JobNumbers | None = Field(
        default=None, description="The numbers of its report that lists show; null for jobs of versions before 0.2."
    )


class JobSubmission(_Frozen):
    """What a caller asks for; `submit` turns it into a job."""

    work: Work
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=32)
    max_attempts: int = Field(default=3, ge=1, le=10)


class Lease(NamedTuple):
    """A worker's hold on one attempt of a job: the fence of every write it makes."""

    job_id: str
    attempt: int
    worker: str


class OutboxMessage(NamedTuple):
    """A message that must reach the broker, and the trace it belongs to."""

    id: int
    job_id: str
    attempt: int
    traceparent: str | None = None


class Job(_Frozen):
    """One piece of work and all that became of it. Its `attempt` is a part of every lease on it."""

    schema_version: int = JOB_SCHEMA_VERSION
    id: JobId
    owner: str = Field(default="local", description="The API key or user the job belongs to.")
    state: JobState
    stage: Stage | None = Field(default=None, description="What the attempt is at, or ended in.")
    progress: float = Field(default=0.0, ge=0.0, le=1.0, description="Share of the current attempt that is done.")
    attempt: int = Field(default=1, ge=1)
    max_attempts: int = Field(default=3, ge=1)
    work: Work
    tags: tuple[str, ...] = ()
    brought_token: bool = Field(default=False, description="Whether it came with a Hub token of its own.")
    unchecked: tuple[str, ...] = Field(
        default=(),
        description="What could not be asked when it was submitted; its worker asks before it downloads anything.",
    )
    max_running: int | None = Field(
        default=None, ge=0, description="It waits while its owner has so many jobs at work; null: it waits for nobody."
    )
    result: JobResult | None = None
    failure: JobFailure | None = None
    has_report: bool = False
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    content_key: str | None = Field(
        default=None, description="Equal for two jobs that would compute the same artifact."
    )
    traceparent: str | None = Field(
        default=None, description="W3C trace context of the request that submitted the job."
    )

    @property
    def needs_hub_token(self) -> bool:
        """Whether a retry has to bring a token again: the job's own was deleted when it ended."""
        return self.brought_token and self.state in (JobState.FAILED, JobState.CANCELED)


class Claim(NamedTuple):
    """A job and the lease it was given out under."""

    job: Job
    lease: Lease


class UnreadableJob(_Frozen):
    """A job whose row this version cannot read: all that is known of it without looking into it."""

    id: str
    owner: str
    state: str
    created_at: datetime


class JobEvent(_Frozen):
    """Something that happened to a job. `sequence` grows by one per job and never repeats."""

    schema_version: int = EVENT_SCHEMA_VERSION
    job_id: JobId
    sequence: int
    attempt: int
    kind: EventKind
    data: dict[str, Any]
    created_at: datetime


class JobFilter(_Frozen):
    """Which jobs to list; every given field must match."""

    owner: str | None = None
    kind: str | None = None
    states: tuple[JobState, ...] = ()
    model_id: str | None = None
    destination: str | None = None
    recipe: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class JobPage(_Frozen):
    """One page of a list, newest first, and the cursor of the next."""

    jobs: tuple[Job, ...]
    unreadable: tuple[UnreadableJob, ...] = ()
    """Those of the page that this version cannot read."""
    next_cursor: str | None = None


class Usage(_Frozen):
    """What an owner has in the service right now, and has used lately."""

    queued: int
    running: int
    running_seconds: float
    """Time of jobs that ran since the given moment, those that still run included."""
