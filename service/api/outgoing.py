"""The messages we send to webhook endpoints, for the schema: what a receiver has to be ready for."""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from service.jobs.schema import JobFailure, JobId, JobState
from service.notifications.schema import NoticeType


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


class JobMessage(BaseModel):
    """A change of a job's state."""

    type: NoticeType
    timestamp: datetime
    data: JobNotice


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
        body: JobMessage,
        webhook_id: Annotated[str, Header(description="The same for every try; drop what you have seen.")],
        webhook_timestamp: Annotated[int, Header(description="Seconds since 1970; refuse what is minutes old.")],
        webhook_signature: Annotated[
            str, Header(description="v1,<base64 HMAC-SHA256 of id.timestamp.body>; several while a secret is replaced.")
        ],
    ) -> None:
        """Verify the signature, answer 2xx within 15 seconds, and work later. See standardwebhooks.com."""
