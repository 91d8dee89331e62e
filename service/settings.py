"""What an operator may choose about the HTTP edge. Read once, by the composition root."""

from pathlib import Path
from typing import Literal

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class ServiceSettings(BaseSettings):
    """Environment variables `SERVICE_*` of the API process. Jobs have their own settings."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 picks a free one.")
    sign_in: Literal["none", "keys"] = Field(
        default="none",
        description="none: everybody is one local user, on loopback only. keys: programs and people need an API key; "
        "`srr keys create` makes the first.",
    )
    trust_network: bool = Field(
        default=False,
        description="Listen beyond this machine although nobody signs in. Only where something in front does that: "
        "a proxy, or a container whose port is published on loopback.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=("localhost", "127.0.0.1", "::1"),
        description="Values of the Host header that are answered. This is what stops DNS rebinding: a page on the "
        "internet that makes its own name point at this machine.",
    )
    public_url: HttpUrl = Field(
        default=HttpUrl("http://127.0.0.1:8000"), description="Where people reach the service; for links in messages."
    )
    allow_private_webhooks: bool = Field(
        default=False, description="Let webhooks go into private networks and over plain http; for receivers inside."
    )
    mail_server: str | None = Field(
        default=None, description="host or host:port of an SMTP server that takes mail from here; None: no mails."
    )
    mail_from: str = Field(default="srr@localhost", description="Sender of the mails.")
    hub_url: HttpUrl = Field(
        default=HttpUrl("https://huggingface.co"),
        description="The Hub: where models are looked up and where links to them lead.",
    )
    hub_token: SecretStr | None = Field(
        default=None, description="Read-only token to look at watched models with; jobs use the worker's or their own."
    )
    source_hub: Literal["huggingface", "folder", "folder-then-huggingface"] = Field(
        default="folder-then-huggingface", description="Where source models are looked up; as WORKER_SOURCE_HUB."
    )
    destination_hub: Literal["huggingface", "folder"] = Field(
        default="folder", description="Where destinations are looked up; as WORKER_DESTINATION_HUB."
    )
    folder_hub_dir: Path | None = Field(
        default=None, description="Root of the folder hub; None: hub in SERVICE_DATA_DIR. As WORKER_FOLDER_HUB_DIR."
    )
    form_secret: SecretStr | None = Field(
        default=None,
        description="Signs the tokens in forms. Needed when several API processes share one address; "
        "otherwise each process makes its own.",
    )
    max_body_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1024, description="Largest request body; two texts of the largest size fit."
    )
    max_streams: int = Field(default=1000, ge=1, description="Event streams served at once by one process.")
    event_poll_seconds: float = Field(
        default=0.25, gt=0.0, le=5.0, description="How often a watched job is read from the database."
    )
