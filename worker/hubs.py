"""Which hub a worker downloads from and publishes to, as the settings of both halves say."""

from collections.abc import Callable
from pathlib import Path

from service.hub.choice import HubPair, choose_destination, choose_source
from service.hub.settings import HubSettings
from worker.folder_hub import FolderHub
from worker.hub import HuggingFaceHub, ModelHub


def source_hub(settings: HubSettings, folder: Path) -> Callable[[str], ModelHub]:
    """Return the function that tells which hub has a model."""
    local, hubs = FolderHub(folder), _hubs(settings, folder)
    return lambda model_id: choose_source(settings, model_id, hubs, has=lambda name: local.repository(name).exists)


def destination_hub(settings: HubSettings, folder: Path) -> ModelHub:
    """Return the hub artifacts are published to."""
    return choose_destination(settings, _hubs(settings, folder))


def _hubs(settings: HubSettings, folder: Path) -> HubPair[ModelHub]:
    return HubPair(FolderHub(folder), HuggingFaceHub(settings.endpoint))
