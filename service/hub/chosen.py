"""The hubs the service looks at, as the settings say."""

from pathlib import Path
from typing import Protocol

from service.hub.cached import COMMIT, CachedMetadata
from service.hub.choice import HubPair, choose_destination, choose_source
from service.hub.client import HubClient, Timeouts
from service.hub.folder import FolderMetadata
from service.hub.metadata import HubMetadata, HuggingFaceMetadata
from service.hub.releases import BothReleases, FolderReleases, HubReleases, HuggingFaceReleases
from service.hub.settings import HubSettings


class Hubs(Protocol):
    """Which hub has a model, and which one artifacts go to."""

    def source(self, model_id: str) -> HubMetadata:
        """Return the hub that has a model."""

    @property
    def destination(self) -> HubMetadata:
        """The hub artifacts are published to."""

    @property
    def releases(self) -> HubReleases:
        """The releases of every hub that has sources."""

    def known_sha(self, model_id: str, revision: str) -> str | None:
        """Return the commit of a revision if that is known without asking over the network."""


class ConfiguredHubs:
    """The folder hub, the Hub, or the first of them that has a model."""

    def __init__(self, settings: HubSettings, *, data_dir: Path) -> None:
        self._settings = settings
        self._folder = FolderMetadata(settings.resolved_folder_hub_dir(data_dir))
        # Somebody waits for the answer: one try, and not for long.
        client = HubClient(settings.endpoint, attempts=1, timeouts=Timeouts(connect_seconds=5, read_seconds=15))
        self._remote = CachedMetadata(HuggingFaceMetadata(client))
        self._seen_folder = CachedMetadata(self._folder)
        self._remote_releases = HuggingFaceReleases(client)
        self._folder_releases = FolderReleases(self._folder)

    def source(self, model_id: str) -> HubMetadata:
        """Return the hub that has a model.

        Raises:
            InvalidRepoIdError: no hub can have it.
        """
        return choose_source(
            self._settings,
            model_id,
            HubPair(self._seen_folder, self._remote),
            has=lambda name: self._folder.repository(name).exists,
        )

    @property
    def destination(self) -> HubMetadata:
        """The hub artifacts are published to."""
        return choose_destination(self._settings, HubPair(self._seen_folder, self._remote))

    @property
    def releases(self) -> HubReleases:
        """The releases of every hub that has sources; of a model that both have, the folder's."""
        if self._settings.source_hub == "folder":
            return self._folder_releases
        if self._settings.source_hub == "huggingface":
            return self._remote_releases
        return BothReleases(self._folder_releases, self._remote_releases)

    def known_sha(self, model_id: str, revision: str) -> str | None:
        """Return the commit of a revision if that is known without asking over the network."""
        if COMMIT.fullmatch(revision):
            return revision
        is_here = self.source(model_id) is self._seen_folder
        return self._folder.repository(model_id).find(revision) if is_here else None
