"""Which hub has a model, and which one artifacts go to: one rule for everybody who asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.hub.settings import HubSettings

H = TypeVar("H")


@dataclass(frozen=True)
class HubPair(Generic[H]):
    """The two hubs there are: the operator's folder, and the Hub."""

    folder: H
    remote: H


def choose_source(settings: HubSettings, model_id: str, hubs: HubPair[H], *, has: Callable[[str], bool]) -> H:
    """Return the hub that has a model.

    Args:
        has: Whether the folder hub has it; asked only where that decides.
    """
    if settings.source_hub == "folder-then-huggingface":
        return hubs.folder if has(model_id) else hubs.remote
    return hubs.folder if settings.source_hub == "folder" else hubs.remote


def choose_destination(settings: HubSettings, hubs: HubPair[H]) -> H:
    """Return the hub artifacts are published to."""
    return hubs.folder if settings.destination_hub == "folder" else hubs.remote
