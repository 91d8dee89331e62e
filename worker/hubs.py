"""Which hub a worker downloads from and publishes to, as its settings say."""

from collections.abc import Callable
from pathlib import Path

from worker.folder_hub import FolderHub
from worker.hub import HuggingFaceHub, ModelHub
from worker.settings import WorkerSettings


def source_hub(settings: WorkerSettings, folder: Path) -> Callable[[str], ModelHub]:
    """Return the function that tells which hub has a model."""
    local = FolderHub(folder)
    remote = HuggingFaceHub(str(settings.hub_endpoint).rstrip("/"))

    def choose(model_id: str) -> ModelHub:
        if settings.source_hub == "folder-then-huggingface":
            return local if local.repository(model_id).exists else remote
        return local if settings.source_hub == "folder" else remote

    return choose


def destination_hub(settings: WorkerSettings, folder: Path) -> ModelHub:
    """Return the hub artifacts are published to."""
    return (
        FolderHub(folder)
        if settings.destination_hub == "folder"
        else HuggingFaceHub(str(settings.hub_endpoint).rstrip("/"))
    )
