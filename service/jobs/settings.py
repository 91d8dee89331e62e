"""What both edges must agree on: where jobs are kept, how workers are woken, how long a lease lasts."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.platform.redis_client import SENTINEL_SCHEME


def _default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "srr"


class JobsSettings(BaseSettings):
    """Read from `SERVICE_*` by the service and by the worker alike.

    The defaults are the embedded service: SQLite and a broker made of files, both in the data directory.
    """

    model_config = SettingsConfigDict(env_prefix="SERVICE_", extra="ignore", frozen=True, hide_input_in_errors=True)

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Database, broker files and key of the embedded service."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL, postgresql+psycopg://... or sqlite:///...; None: jobs.sqlite3 in data_dir.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="redis://..., rediss://... or sentinel://one:26379;sentinel://two:26379; None: files in data_dir.",
    )
    broker_master_name: str | None = Field(
        default=None, min_length=1, description="Name of the master the Sentinels watch; needed with sentinel://."
    )
    queue_name: str = Field(
        default="srr-jobs", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Queue of the broker that workers read."
    )
    key_prefix: str = Field(default="srr:", description="Prefix of every Redis key, one per environment.")
    visibility_timeout_seconds: int = Field(
        default=13 * 3600,
        ge=60,
        description="Seconds after which Redis redelivers an unacknowledged message; above the job time limit.",
    )
    lease_seconds: float = Field(
        default=60.0, gt=0, description="Seconds of silence of a worker after which its job is requeued."
    )
    heartbeat_seconds: float = Field(default=12.0, gt=0, description="How often a worker renews its lease.")
    maintenance_seconds: float = Field(
        default=5.0, gt=0, description="How often outbox, leases and lost messages are looked after."
    )
    lost_message_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds in the queue after which a job's message is sent again, if the broker has lost messages.",
    )
    retry_first_seconds: float = Field(
        default=15.0, ge=0, description="Wait after the first failed attempt; then four times longer."
    )
    credential_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="Fernet keys, separated by commas, newest first; none: credential.key in data_dir."
    )
    credential_hours: float = Field(default=72.0, gt=0, description="A Hub token that waits longer is forgotten.")

    @field_validator("credential_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _know_the_broker(self) -> Self:
        if self.broker_url is None:
            return self
        if not self.resolved_broker_url.startswith(("redis://", "rediss://", SENTINEL_SCHEME)):
            raise ValueError("SERVICE_BROKER_URL begins with redis://, rediss:// or sentinel://")
        if self.resolved_broker_url.startswith(SENTINEL_SCHEME) and self.broker_master_name is None:
            raise ValueError(
                "SERVICE_BROKER_URL names Sentinels: set SERVICE_BROKER_MASTER_NAME to their master's name"
            )
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database in use, password included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'jobs.sqlite3'}"

    @property
    def resolved_broker_url(self) -> str:
        """The broker in use, password included."""
        return self.broker_url.get_secret_value() if self.broker_url is not None else "filesystem://localhost//"

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without a heartbeat."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def retry_first(self) -> timedelta:
        """Wait after the first failed attempt."""
        return timedelta(seconds=self.retry_first_seconds)
