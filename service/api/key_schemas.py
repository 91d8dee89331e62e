"""What clients send and get about API keys and what their owners use."""

from datetime import datetime

from pydantic import BaseModel, Field

from service.keys.schema import Quota, Scope


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
