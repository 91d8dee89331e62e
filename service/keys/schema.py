"""API keys as values; the secret is in none of them."""

from datetime import datetime
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["jobs:read", "jobs:write", "watches:read", "watches:write", "notifications:write", "keys:write"]
ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quota(_Frozen):
    """What the owner of a key may use; None is without limit."""

    max_queued: int | None = Field(default=100, ge=0, description="Jobs that wait at once.")
    max_running: int | None = Field(default=10, ge=0, description="Jobs that run at once.")
    minutes_per_day: float | None = Field(default=None, ge=0, description="Minutes of running jobs in 24 hours.")
    requests_per_minute: int = Field(default=600, ge=1, le=100_000)

    def beyond(self, other: "Quota") -> tuple[str, ...]:
        """Return the names of the limits that allow more than another quota does; none when it fits inside."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in Quota.model_fields)
        return tuple(name for name, mine, theirs in pairs if theirs is not None and (mine is None or mine > theirs))


class ApiKey(_Frozen):
    """One key: whose it is and what it may do."""

    id: str
    name: str = Field(min_length=1, max_length=100)
    owner: str = Field(min_length=1, max_length=128)
    scopes: tuple[Scope, ...]
    quota: Quota = Quota()
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class IssuedKey(_Frozen):
    """A new key and its text, which is shown this once and kept nowhere."""

    key: ApiKey
    text: str = Field(repr=False)


_AS_MINE = "Null: as the key that asks; never more."


class KeyCreate(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "nightly", "scopes": ["jobs:read", "jobs:write"]}]},
    )

    name: str = Field(min_length=1, max_length=100)
    scopes: tuple[Scope, ...] = Field(min_length=1, description="Not more than the key that asks has.")
    expires_in_days: int | None = Field(
        default=90, ge=1, le=3650, description="Null: until it is revoked. No key outlives the one that makes it."
    )
    max_queued: int | None = Field(default=None, ge=0, description=f"Jobs that wait at once. {_AS_MINE}")
    max_running: int | None = Field(default=None, ge=0, description=f"Jobs that run at once. {_AS_MINE}")
    minutes_per_day: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description=f"Minutes of running jobs in 24 hours. {_AS_MINE}"
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=100_000, description=_AS_MINE)
