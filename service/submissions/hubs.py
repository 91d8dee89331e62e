"""Which hubs the service looks at, as its settings say; the worker has the same choice for what it moves."""

from pathlib import Path

from service.hub.cached import COMMIT, CachedMetadata
from service.hub.client import HubClient, Timeouts
from service.hub.folder import FolderMetadata
from service.hub.metadata import HubMetadata, HuggingFaceMetadata
from service.hub.releases import FolderReleases, HubReleases, HuggingFaceReleases
from service.settings import ServiceSettings


class ConfiguredHubs:
    """The folder hub, the Hub, or the first of them that has a model."""

    def __init__(self, settings: ServiceSettings, *, data_dir: Path) -> None:
        self._settings = settings
        self._folder = FolderMetadata(settings.folder_hub_dir or data_dir / "hub")
        # Somebody waits for the answer: one try, and not for long.
        client = HubClient(str(settings.hub_url), attempts=1, timeouts=Timeouts(connect_seconds=5, read_seconds=15))
        self._remote = CachedMetadata(HuggingFaceMetadata(client))
        self._seen_folder = CachedMetadata(self._folder)
        self._remote_releases = HuggingFaceReleases(client)
        self._folder_releases = FolderReleases(self._folder)

    def source(self, model_id: str) -> HubMetadata:
        """Return the hub that has a model.

        Raises:
            InvalidRepoIdError: no hub can have it.
        """
        if self._settings.source_hub == "folder-then-huggingface":
            return self._seen_folder if self._folder.repository(model_id).exists else self._remote
        return self._seen_folder if self._settings.source_hub == "folder" else self._remote

    @property
    def destination(self) -> HubMetadata:
        """The hub artifacts are published to."""
        return self._seen_folder if self._settings.destination_hub == "folder" else self._remote

    @property
    def releases(self) -> HubReleases:
        """The hub whose releases are watched: a folder hub only where there is nothing else."""
        return self._folder_releases if self._settings.source_hub == "folder" else self._remote_releases

    @property
    def watched(self) -> HubMetadata:
        """The hub that `releases` lists."""
        return self._seen_folder if self._settings.source_hub == "folder" else self._remote

    def known_sha(self, model_id: str, revision: str) -> str | None:
        """Return the commit of a revision if that is known without asking over the network."""
        if COMMIT.fullmatch(revision):
            return revision
        is_here = self.source(model_id) is self._seen_folder
        return self._folder.repository(model_id).find(revision) if is_here else None
