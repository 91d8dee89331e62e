"""Endpoints and deliveries, as values; the secrets are in none of them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

NoticeType = Literal[
    "job.queued",
    "job.running",
    "job.checkpoint",
    "job.publishing",
    "job.succeeded",
    "job.failed",
    "job.canceling",
    "job.canceled",
]
ALL_TYPES: tuple[NoticeType, ...] = get_args(NoticeType)
DEFAULT_TYPES: tuple[NoticeType, ...] = ("job.succeeded", "job.failed", "job.canceled")
CHECKPOINT_TYPE = "job.checkpoint"
TEST_TYPE = "endpoint.test"
DISABLED_TYPE = "endpoint.disabled"
"""Goes to all other endpoints of an owner, whatever they asked for: who was told nothing could not ask for more."""
WATCH_TYPE = "watch.failing"
"""Goes to all endpoints of an owner: a watch that fails looks like one that has nothing to find."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointRules(_Frozen):
    """Where to send what, and in which form."""

    url: str = Field(max_length=2000, description="https://... or, for mails, mailto:name@example.org")
    types: tuple[NoticeType, ...] = Field(default=DEFAULT_TYPES, min_length=1)
    form: Literal["standard", "slack", "mail"] = Field(
        default="standard", description="standard: signed by Standard Webhooks. slack: an incoming webhook. mail: SMTP."
    )
    description: str = Field(default="", max_length=200)
    enabled: bool = True


class Endpoint(EndpointRules):
    """Somebody who wants to be told."""

    id: str
    owner: str
    created_at: datetime
    failing_since: datetime | None = None
    disabled_reason: str | None = None


class NewEndpoint(_Frozen):
    """A new endpoint and the secret to verify its messages with, shown this once."""

    endpoint: Endpoint
    secret: str = Field(repr=False)


class DeliveryState(StrEnum):
    """The outcome of a message."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(_Frozen):
    """One message to one endpoint, however often it takes."""

    id: str = Field(description="Sent as webhook-id: the same for every attempt, so that receivers can drop repeats.")
    endpoint_id: str
    type: str
    payload: dict[str, Any]
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None = None


class Attempt(_Frozen):
    """One try: the status that came back, or why none did."""

    delivery_id: str
    number: int
    at: datetime
    status: int | None = None
    error: str | None = None
    seconds: float
