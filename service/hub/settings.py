"""Which hubs there are, for both halves: the service looks where the worker downloads from and publishes to."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, HttpUrl
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

_FORMER = {
    "WORKER_SOURCE_HUB": "source_hub",
    "WORKER_DESTINATION_HUB": "destination_hub",
    "WORKER_FOLDER_HUB_DIR": "folder_hub_dir",
    "WORKER_HUB_ENDPOINT": "hub_url",
}
"""What the worker's half was called before 0.2, when the two could point at different hubs."""


class HubSettings(BaseSettings):
    """Read from `SERVICE_*` by the service and by the worker alike."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    hub_url: HttpUrl = Field(
        default=HttpUrl("https://huggingface.co"),
        description="The Hub, or a mirror of it: models come from there, artifacts go there, links lead there.",
    )
    source_hub: Literal["huggingface", "folder", "folder-then-huggingface"] = Field(
        default="folder-then-huggingface", description="Where source models are looked for."
    )
    destination_hub: Literal["huggingface", "folder"] = Field(default="folder", description="Where artifacts go.")
    folder_hub_dir: Path | None = Field(
        default=None, description="Root of the folder hub; None: hub in SERVICE_DATA_DIR."
    )

    @property
    def endpoint(self) -> str:
        """The Hub's address, without a slash at the end."""
        return str(self.hub_url).rstrip("/")

    def resolved_folder_hub_dir(self, data_dir: Path) -> Path:
        """The root of the folder hub in use."""
        return self.folder_hub_dir or data_dir / "hub"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the former names behind everything else."""
        return init_settings, env_settings, dotenv_settings, file_secret_settings, _FormerNames(settings_cls)


class _FormerNames(EnvSettingsSource):
    """The names of before 0.2; a value that contradicts the name of today is refused, because neither can be right."""

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for former, name in _FORMER.items():
            value, today = os.environ.get(former), f"SERVICE_{name.upper()}"
            if value is None:
                continue
            said = os.environ.get(today, value)
            if said.rstrip("/") != value.rstrip("/"):
                raise ValueError(f"{former} contradicts {today}: keep {today} alone, the API and the worker read it")
            found[name] = value
        return found
