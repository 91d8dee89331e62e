"""What an operator may choose about the HTTP edge. Read once, by the composition root."""

from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEBIBYTE = 1024 * 1024
SIGN_IN_SCOPES = frozenset({"openid", "profile"})
"""Without them the Hub proves nobody's identity and tells nobody's name."""
PUBLISHING_SCOPES = frozenset({"contribute-repos", "write-repos", "manage-repos"})
"""Scopes of the Hub that let an application publish; see https://huggingface.co/docs/hub/oauth."""


class ServiceSettings(BaseSettings):
    """Environment variables `SERVICE_*` of the API process. Jobs and hubs have their own settings."""

    # What was typed is not repeated in a complaint: it may be a secret.
    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 picks a free one.")
    sign_in: Literal["none", "keys", "huggingface"] = Field(
        default="none",
        description="none: everybody is one local user, on loopback only. keys: programs and people need an API key; "
        "`srr keys create` makes the first. huggingface: people may also sign in with their account of the Hub.",
    )
    oauth_client_id: str | None = Field(
        default=None,
        min_length=1,
        description="Client id of the application registered with the Hub, whose redirect URL is SERVICE_PUBLIC_URL "
        "followed by /sign-in/huggingface/callback. Needed for huggingface.",
    )
    oauth_client_secret: SecretStr | None = Field(
        default=None, description="Its secret; None: a public application, which has none."
    )
    oauth_scopes: str = Field(
        default="openid profile contribute-repos gated-repos",
        description="What people are asked to allow: to know who they are, to create repositories and to write only to "
        "those, and to read the gated models they may read. Add read-repos for private sources. Without a scope that "
        "may write, the access is not kept and jobs use a typed token.",
    )
    oauth_allowed: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Users (name or id) and organizations of the Hub who may sign in, separated by commas. Empty: "
        "anyone with an account may. Their jobs never use the worker's token, so they make no watches either. The API "
        "keys they make outlive a place on this list; `srr keys list` shows them.",
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
        default=HttpUrl("http://127.0.0.1:8000"),
        description="Where people reach the service; for links in messages and the way back from a sign-in.",
    )
    allow_private_webhooks: bool = Field(
        default=False, description="Let webhooks go into private networks and over plain http; for receivers inside."
    )
    mail_server: str | None = Field(
        default=None, description="host or host:port of an SMTP server that takes mail from here; None: no mails."
    )
    mail_from: str = Field(default="srr@localhost", description="Sender of the mails.")
    hub_token: SecretStr | None = Field(
        default=None, description="Read-only token to look at watched models with; jobs use the worker's or their own."
    )
    form_secret: SecretStr | None = Field(
        default=None,
        description="Signs sessions, sign-ins and the tokens in forms. Needed when several API processes share one "
        "address; otherwise each process makes its own.",
    )
    max_body_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1024, description="Largest request body; two texts of the largest size fit."
    )
    max_streams: int = Field(default=1000, ge=1, description="Event streams served at once by one process.")
    max_streams_of_one: int = Field(default=100, ge=1, description="Those of them that one owner may hold.")
    event_poll_seconds: float = Field(
        default=0.25, gt=0.0, le=5.0, description="How often a watched job is read from the database."
    )

    @field_validator("oauth_allowed", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_sign_in(self) -> Self:
        if self.sign_in != "huggingface":
            return self
        if self.oauth_client_id is None:
            raise ValueError("SERVICE_SIGN_IN=huggingface needs SERVICE_OAUTH_CLIENT_ID")
        missing = sorted(SIGN_IN_SCOPES - set(self.oauth_scopes.split()))
        if missing:
            raise ValueError(f"SERVICE_OAUTH_SCOPES lacks {' and '.join(missing)}, so nobody could sign in")
        return self

    @property
    def public_address(self) -> str:
        """Where people reach the service, without a slash at the end."""
        return str(self.public_url).rstrip("/")

    @property
    def keeps_hub_access(self) -> bool:
        """Whether the access that comes with a sign-in is good for publishing."""
        return self.sign_in == "huggingface" and bool(PUBLISHING_SCOPES & set(self.oauth_scopes.split()))
