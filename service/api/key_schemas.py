"""What clients send and get about API keys and what their owners use."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from service.keys.schema import Quota, Scope

_AS_MINE = "Null: as the key that asks; never more."


class KeyCreate(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "nightly", "scopes": ["jobs:read", "jobs:write"]}]},
    )

    name: str = Field(min_length=1, max_length=100)
    scopes: tuple[Scope, ...] = Field(min_length=1, description="Not more than the key that asks has.")
    expires_in_days: int | None = Field(default=90, ge=1, le=3650, description="Null: until it is revoked.")
    max_queued: int | None = Field(default=None, ge=0, description=f"Jobs that wait at once. {_AS_MINE}")
    max_running: int | None = Field(default=None, ge=0, description=f"Jobs that run at once. {_AS_MINE}")
    minutes_per_day: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description=f"Minutes of running jobs in 24 hours. {_AS_MINE}"
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=100_000, description=_AS_MINE)


class KeyResource(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    quota: Quota
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class NewKey(BaseModel):
    """A new key and its text."""

    key: KeyResource
    text: str = Field(description="Shown this once and kept nowhere. Send it as `Authorization: Bearer`.")


class KeyList(BaseModel):
    """The keys of the caller, newest first."""

    keys: list[KeyResource]


class UsageResource(BaseModel):
    """What an owner uses now and has used."""

    queued: int = Field(description="Jobs that wait.")
    running: int = Field(description="Jobs at work.")
    minutes_last_day: float = Field(description="Minutes of running jobs in the last 24 hours.")
    quota: Quota | None = Field(description="Null for the local user, who has none.")
