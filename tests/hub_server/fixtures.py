"""Fixtures for tests that need a Hub. The product is imported when one is used: every session loads this module."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.hub_server.server import HubServer

if TYPE_CHECKING:
    from tests.hub_server.seeded import Seeded
    from worker.hub import HuggingFaceHub


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub that large files reach by Git LFS."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with HubServer() as server:
        yield server


@pytest.fixture
def xet_hub_server(xet_works: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub that large files reach by Xet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    directory = tmp_path / "xet"
    directory.mkdir()
    with HubServer(xet_directory=directory) as server:
        yield server


class Sleeps(list[float]):
    """Waits that are noted instead of waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """The waits between the tries of `patient_hub`, its client's own included."""
    noted = Sleeps()
    # Only the client's name for the module is replaced; the server's stays real.
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=noted))
    return noted


@pytest.fixture
def patient_hub(hub_server: HubServer, sleeps: Sleeps) -> "HuggingFaceHub":
    """A hub over `hub_server` that tries three times and never really waits."""
    from service.hub.client import HubClient
    from worker.hub import HuggingFaceHub

    return HuggingFaceHub(client=HubClient(hub_server.url, attempts=3, sleep=sleeps))


@pytest.fixture(scope="session")
def xet_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip when the installed hf_xet no longer stores into a directory, which it does without a promise."""
    pytest.importorskip("hf_xet")
    from huggingface_hub import CommitOperationAdd, HfApi

    probe = os.urandom(1000)
    with HubServer(xet_directory=tmp_path_factory.mktemp("xet")) as server:
        api = HfApi(endpoint=server.url, token="hf_alice")
        api.create_repo("alice/probe")
        try:
            api.create_commit("alice/probe", [CommitOperationAdd("model.safetensors", probe)], commit_message="probe")
        except (OSError, RuntimeError) as error:
            pytest.skip(f"hf_xet does not store into a local directory any more: {error}")


@pytest.fixture(params=["folder", "lfs", "xet"])
def seeded(request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[Seeded]":
    """Each kind of hub in turn, empty."""
    from service.hub.client import HubClient
    from tests.hub_server.seeded import SeededFolder, SeededServer
    from worker.folder_hub import FolderHub
    from worker.hub import HuggingFaceHub

    if request.param == "folder":
        yield SeededFolder(FolderHub(tmp_path / "hub"), tmp_path / "seeds")
        return
    server = request.getfixturevalue("hub_server" if request.param == "lfs" else "xet_hub_server")
    client = HubClient(server.url, attempts=1)
    yield SeededServer(HuggingFaceHub(client=client), client, server)
