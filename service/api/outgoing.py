"""The messages we send to webhook endpoints, for the schema: what a receiver has to be ready for."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from service.jobs.schema import JobFailure, JobId, JobState
from service.notifications.schema import NoticeType


class CheckpointNotice(BaseModel):
    """A checkpoint of a fine-tuning; the latest of those that were made since the message before."""

    cell: int = Field(default=0, description="Which training of a grid, from 0.")
    step: int
    scores: dict[str, float] = {}
    is_best: bool = False
    url: str = Field(description="The checkpoints over REST.")


class JobNotice(BaseModel):
    """Thin on purpose: ask the API for the rest."""

    job_id: JobId
    state: JobState
    attempt: int
    model_id: str
    destination: str
    recipe: str
    tags: list[str]
    url: str = Field(description="The job over REST.")
    page: str = Field(description="The job for people.")
    commit_url: str | None = Field(default=None, description="Only when it succeeded.")
    failure: JobFailure | None = Field(default=None, description="Only when it failed.")
    checkpoint: CheckpointNotice | None = Field(default=None, description="Only of `job.checkpoint`.")


class EndpointNotice(BaseModel):
    """Which endpoint, and why; its URL may be a secret and is left out."""

    endpoint_id: str
    description: str
    reason: str
    url: str = Field(description="The endpoint over REST.")
    page: str = Field(description="The endpoints for people.")


class EndpointMessage(BaseModel):
    """An endpoint of the same owner that was switched off for what it answered."""

    type: Literal["endpoint.disabled"]
    timestamp: datetime
    data: EndpointNotice


class WatchNotice(BaseModel):
    """Which watch, and why it fails."""

    watch_id: str
    name: str
    reason: str
    next_try: datetime
    url: str = Field(description="The watch over REST.")
    page: str = Field(description="The watch for people.")


class WatchMessage(BaseModel):
    """A watch of the owner that has failed several times in a row."""

    type: Literal["watch.failing"]
    timestamp: datetime
    data: WatchNotice


class JobMessage(BaseModel):
    """A change of a job's state, or a checkpoint of its training."""

    type: NoticeType
    timestamp: datetime
    data: JobNotice


MessageId = Annotated[str, Header(description="The same for every try; drop what you have seen.")]
SentAt = Annotated[int, Header(description="Seconds since 1970; refuse what is minutes old.")]
Signature = Annotated[
    str, Header(description="v1,<base64 HMAC-SHA256 of id.timestamp.body>; several while a secret is replaced.")
]


def describe_outgoing(app: FastAPI) -> None:
    """Add the messages to the schema. Nothing is routed here: these are requests we make, not answer."""

    @app.webhooks.post(
        "job",
        operation_id="onJobChange",
        summary="A job changed its state",
        tags=["notifications"],
        responses={410: {"description": "Take the endpoint off the list; any other refusal is tried again for days."}},
    )
    def on_job_change(
        body: JobMessage, webhook_id: MessageId, webhook_timestamp: SentAt, webhook_signature: Signature
    ) -> None:
        """Verify the signature, answer 2xx within 15 seconds, and work later. See standardwebhooks.com."""

    @app.webhooks.post(
        "endpoint",
        operation_id="onEndpointDisabled",
        summary="Another endpoint was switched off",
        tags=["notifications"],
    )
    def on_endpoint_disabled(
        body: EndpointMessage, webhook_id: MessageId, webhook_timestamp: SentAt, webhook_signature: Signature
    ) -> None:
        """Sent to all other endpoints of an owner that are on, whatever they asked for; refusing it is harmless."""

    @app.webhooks.post(
        "watch",
        operation_id="onWatchFailing",
        summary="A watch fails again and again",
        tags=["notifications"],
    )
    def on_watch_failing(
        body: WatchMessage, webhook_id: MessageId, webhook_timestamp: SentAt, webhook_signature: Signature
    ) -> None:
        """Sent to all endpoints of an owner that are on, once for each row of failures."""
