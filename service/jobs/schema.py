"""A job and its events, as values: frozen, serializable, the same on both edges."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from srr_core.recipe import Recipe

JobId = Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")]
RepoId = Annotated[
    str,
    Field(
        min_length=3,
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        examples=["org/model"],
    ),
]
MAX_TEXT_CHARACTERS = 4_000_000


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


EventKind = Literal["state", "progress", "layer", "log"]
TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class JobSource(_Frozen):
    """The model to compress. `sha` is filled in when the revision has been resolved."""

    model_id: RepoId
    revision: str = Field(default="main", min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    sha: str | None = None


class JobDestination(_Frozen):
    """The repository the artifact is published to."""

    repo_id: RepoId
    private: bool | None = Field(default=None, description="None: as private as the source.")


class JobText(_Frozen):
    """A text to calibrate or evaluate on. Without `text` the bundled WikiText-2 slice is used."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_CHARACTERS)
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Set by the store, which keeps the text apart from the job: `JobStore.text(sha256)`.",
    )
    num_sequences: int | None = Field(default=None, ge=1, le=100_000)
    sequence_length: int | None = Field(default=None, ge=8, le=131_072)


class JobSubmission(_Frozen):
    """What a caller asks for; `submit` turns it into a job."""

    source: JobSource
    destination: JobDestination
    recipe: Recipe
    calibration: JobText | None = None
    evaluation: JobText | None = None
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=32)
    acknowledge_license: bool = Field(default=False, description="A person has read an unclear licence.")
    max_attempts: int = Field(default=3, ge=1, le=10)


class SealedSecret(_Frozen):
    """A Hub token as it is stored: unreadable without the key, useless after `expires_at`."""

    ciphertext: bytes
    expires_at: datetime


class OutboxMessage(NamedTuple):
    """A message that must reach the broker, and the trace it belongs to."""

    id: int
    job_id: str
    attempt: int
    traceparent: str | None = None


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


class Job(_Frozen):
    """One compression, from submission to its end. `attempt` fences every write of a worker."""

    id: JobId
    state: JobState
    stage: str | None = Field(
        default=None, description="download, plan, compress, assemble, verify, evaluate or publish."
    )
    progress: float = Field(default=0.0, ge=0.0, le=1.0, description="Share of the current attempt that is done.")
    attempt: int = Field(default=1, ge=1)
    max_attempts: int = Field(default=3, ge=1)
    source: JobSource
    destination: JobDestination
    recipe: Recipe
    calibration: JobText | None = None
    evaluation: JobText | None = None
    tags: tuple[str, ...] = ()
    acknowledge_license: bool = False
    brought_token: bool = Field(default=False, description="Whether it came with a Hub token of its own.")
    owner: str = Field(default="local", description="The API key or user the job belongs to.")
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


class JobEvent(_Frozen):
    """Something that happened to a job. `sequence` grows by one per job and never repeats."""

    job_id: JobId
    sequence: int
    attempt: int
    kind: EventKind
    data: dict[str, Any]
    created_at: datetime


class JobFilter(_Frozen):
    """Which jobs to list; every given field must match."""

    owner: str | None = None
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
    next_cursor: str | None = None


class Usage(_Frozen):
    """What an owner has in the service right now, and has used lately."""

    queued: int
    running: int
    running_seconds: float
    """Time of jobs that ran since the given moment, those that still run included."""
