"""One way to put models into any hub, so that a test can be about hubs and not about one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.hub.client import HubClient
from service.hub.releases import FolderReleases, HubReleases, HuggingFaceReleases
from tests.hub_server.server import HubServer
from worker.folder_hub import FolderHub
from worker.hub import HuggingFaceHub, ModelHub


class Seeded(Protocol):
    """A hub and a way to put models into it."""

    token: str

    @property
    def hub(self) -> ModelHub: ...

    @property
    def releases(self) -> HubReleases: ...

    def seed(self, repo_id: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> str: ...

    def tag(self, repo_id: str, name: str) -> None: ...

    def is_private(self, repo_id: str) -> bool: ...


@dataclass
class SeededFolder:
    hub: FolderHub
    scratch: Path
    token: str = "unused"

    def seed(self, repo_id: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        folder = write_files(self.scratch / repo_id, files)
        return self.hub.import_model(folder, repo_id, private=private, gated=gated)

    @property
    def releases(self) -> HubReleases:
        return FolderReleases(self.hub)

    def tag(self, repo_id: str, name: str) -> None:
        self.hub.import_model(self.scratch / repo_id, repo_id, tag=name)

    def is_private(self, repo_id: str) -> bool:
        return self.hub.existing(repo_id).settings().private


@dataclass
class SeededServer:
    hub: HuggingFaceHub
    client: HubClient
    server: HubServer
    token: str = "hf_alice"

    @property
    def releases(self) -> HubReleases:
        return HuggingFaceReleases(self.client)

    def seed(self, repo_id: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        if repo_id in self.server.state.repositories:
            return self.server.push(repo_id, files).oid
        return self.server.add_model(repo_id, files, private=private, gated=gated).oid

    def tag(self, repo_id: str, name: str) -> None:
        self.server.tag(repo_id, name)

    def is_private(self, repo_id: str) -> bool:
        return self.server.repository(repo_id).private


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
