"""What clients send to the REST API and what they get back."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.edge.fields import HubToken
from service.jobs.eta import remaining_seconds
from service.jobs.schema import Job, JobFailure, JobId, JobResult, JobState, UnreadableJob
from service.jobs.trainings import MAX_CHECKPOINTS, CellSeries, Checkpoint
from service.jobs.tuned_runs import TunedRun
from service.jobs.work import CompressWork, JobDestination, JobSource, JobText, RepoId, Work
from service.platform.clock import utc_now
from srr_core.recipe import Recipe


class RequestBody(BaseModel):
    """A request body; a misspelt field is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class InspectBody(RequestBody):
    """A model to look at."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model_id": "org/model", "revision": "main"}]}
    )

    model_id: RepoId
    revision: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = "main"
    hub_token: HubToken | None = Field(default=None, description="Used for this request only.")


class RetryBody(RequestBody):
    """What a retry may need again."""

    hub_token: HubToken | None = Field(default=None, description="Needed when the job has `needs_hub_token`.")


class TextSummary(BaseModel):
    """Which text a job uses. The text itself is not sent back."""

    sha256: str | None = Field(description="Digest of the text that was sent; null for the bundled one.")
    num_sequences: int | None
    sequence_length: int | None


class JobResource(BaseModel):
    """A job: what it is to do is `work`, told apart by `kind`; the rest is how it fares."""

    id: JobId
    kind: str = Field(default="compress", description="What kind of work it does.")
    state: JobState
    stage: str | None
    progress: float = Field(ge=0.0, le=1.0, description="Share of the current attempt that is done.")
    eta: datetime | None = Field(
        default=None, description="When it should be done at its pace so far; null where that would be a guess."
    )
    queue_position: int | None = Field(
        default=None,
        description="Jobs ahead of this one. Counted by `GET /v1/jobs/{job_id}` only, and null unless queued.",
    )
    attempt: int
    max_attempts: int
    work: Work | None = Field(default=None, description="All of its work; null in answers of versions before 0.2.")
    source: JobSource
    destination: JobDestination | None = Field(description="Null where nothing is published.")
    recipe: Recipe | None = Field(
        description="As in `work`, like the other fields of a compression beside it; null for other kinds of work."
    )
    calibration: TextSummary | None
    evaluation: TextSummary | None
    tags: tuple[str, ...]
    unchecked: tuple[str, ...] = Field(
        default=(),
        description="What could not be checked when the job was submitted, because a hub did not answer. Its worker "
        "checks it before it downloads anything; empty from then on.",
    )
    same_destination: tuple[JobId, ...] = Field(
        default=(),
        description="Your earlier jobs that have not ended and publish to the same repository; what ends last lies on "
        "top. Looked up by `POST /v1/jobs` and `GET /v1/jobs/{job_id}` only.",
    )
    result: JobResult | None
    failure: JobFailure | None
    needs_hub_token: bool = Field(
        description="Whether a retry has to bring `hub_token` again: the job's own was deleted when it ended."
    )
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    events_url: str
    report_url: str | None = Field(description="Null until the job has succeeded.")


class JobList(BaseModel):
    """One page of jobs, newest first."""

    jobs: list[JobResource]
    unreadable: list[UnreadableJob] = Field(
        default_factory=list, description="Jobs of the page that this version of the service cannot read."
    )
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one.")


class EventData(BaseModel):
    """Something that happened to a job. As a server-sent event, its `id` is `sequence` and its `event` is `kind`."""

    sequence: int
    attempt: int
    kind: str
    data: dict[str, Any]
    created_at: datetime


class EventList(BaseModel):
    """Some events of a job, in order."""

    events: list[EventData]


class MetricSeries(BaseModel):
    """The metrics of a fine-tuning so far."""

    steps: int = Field(description="Of one training, as planned; 0 before the data is checked.")
    trainings: int = Field(description="Learning rates and seeds of the grid; 1 without one.")
    cells: list[CellSeries] = Field(description="Those that have begun.")


class CheckpointList(BaseModel):
    """The checkpoints of a fine-tuning, in order."""

    checkpoints: list[Checkpoint] = Field(
        description=f"Of each training the best one and the latest {MAX_CHECKPOINTS}."
    )
    kept: list[int] = Field(
        default_factory=list,
        description="Steps of those that were published with the result, so that they can be published by themselves "
        "or gone on from (`tuning.start` of `artifact` with `checkpoint`). Empty before the end, and unless "
        "`checkpoints.publish` was true.",
    )


class TunedRunList(BaseModel):
    """Fine-tunings beside each other, in the order asked for."""

    runs: list[TunedRun]


class PublishBody(RequestBody):
    """Where a checkpoint is published to."""

    destination: JobDestination
    hub_token: HubToken | None = Field(
        default=None, description="Used for this job only: stored encrypted, never returned, deleted when it ends."
    )


class RecipeResource(BaseModel):
    """A named recipe."""

    name: str
    title: str
    reference: str
    num_bits: int = Field(description="Bits of one code of the quantized part.")
    quantizer_bits_per_weight: float = Field(description="Scales counted, low-rank part left out.")
    rank: int
    is_default: bool
    digest: str = Field(description="SHA-256 of what the recipe does, words left out.")
    recipe: Recipe


class RecipeList(BaseModel):
    """Every named recipe, in the order they are recommended to be read."""

    recipes: list[RecipeResource]


class Health(BaseModel):
    """The answer of a health probe: `ok`, `degraded` or `unavailable`, and what each check found."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)


def text_summary(text: JobText | None) -> TextSummary | None:
    """Return how a job's text is described to clients."""
    if text is None:
        return None
    return TextSummary(sha256=text.sha256, num_sequences=text.num_sequences, sequence_length=text.sequence_length)


def job_resource(job: Job, *, queue_position: int | None = None, same_destination: tuple[str, ...] = ()) -> JobResource:
    """Return a job as clients see it."""
    now, work = utc_now(), job.work
    seconds = remaining_seconds(job, now)
    own = {name: value for name, value in job if name in JobResource.model_fields}
    flat = {name: value for name, value in work if name in JobResource.model_fields}
    return JobResource(
        **own
        | flat
        | {
            "eta": None if seconds is None else now + timedelta(seconds=seconds),
            "needs_hub_token": job.needs_hub_token,
            "queue_position": queue_position,
            "same_destination": same_destination,
            "destination": work.published_to,
            "recipe": work.recipe if isinstance(work, CompressWork) else None,
            "calibration": text_summary(work.calibration) if isinstance(work, CompressWork) else None,
            "evaluation": text_summary(work.evaluation) if isinstance(work, CompressWork) else None,
            "events_url": f"/v1/jobs/{job.id}/events",
            "report_url": f"/v1/jobs/{job.id}/report" if job.has_report else None,
        }
    )
