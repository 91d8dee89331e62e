"""Datasets reach a folder at one commit, whole or not at all, and without any code."""

import json
from pathlib import Path

import pytest

from service.hub.client import HubClient
from service.hub.errors import DownloadCorruptedError, HubRefusedError, HubUnavailableError, ModelNotFoundError
from srr_core.errors import EvaluationError, StopRequested
from srr_core.evaluators.dataset_folder import DatasetFolder
from tests.hub_server import Failure, HubServer
from tests.hub_server.fixtures import Sleeps
from worker import dataset_hub
from worker.dataset_hub import DatasetHub

FILES: dict[str, bytes | Path] = {
    "README.md": b"---\nconfigs: []\n---\n",
    "data/test.jsonl": b'{"a": 1}\n',
    "loader.py": b"raise SystemExit",
    "picture.png": b"png",
}


@pytest.fixture
def hub(hub_server: HubServer, sleeps: Sleeps) -> DatasetHub:
    hub_server.add_model("org/rows", FILES)
    return DatasetHub(HubClient(hub_server.url, attempts=2, sleep=sleeps))


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    return DatasetFolder(tmp_path / "datasets", tmp_path / "cache")


def _names(folder: DatasetFolder) -> list[str]:
    return sorted(p.relative_to(folder.root).as_posix() for p in folder.root.rglob("*") if p.is_file())


def test_only_data_and_its_description_are_fetched(
    hub: DatasetHub, hub_server: HubServer, folder: DatasetFolder
) -> None:
    found = hub.prefetch(["org/rows"], folder)
    assert _names(folder) == ["datasets.json", "org--rows/README.md", "org--rows/data/test.jsonl"]
    assert found["org/rows"].revision == hub_server.repository("org/rows").head.oid == folder.revision("org/rows")


def test_a_folder_stays_at_its_commit(hub: DatasetHub, hub_server: HubServer, folder: DatasetFolder) -> None:
    first = hub.prefetch(["org/rows"], folder)
    hub_server.push("org/rows", {"data/test.jsonl": b'{"a": 2}\n'})
    assert hub.prefetch(["org/rows"], folder) == first
    # Files that are gone come back from the commit that is written down.
    (folder.root / "org--rows").rename(folder.root.parent / "elsewhere")
    assert hub.prefetch(["org/rows"], folder) == first
    assert (folder.root / "org--rows/data/test.jsonl").read_bytes() == b'{"a": 1}\n'


def test_a_second_dataset_joins_the_first(hub: DatasetHub, hub_server: HubServer, folder: DatasetFolder) -> None:
    hub.prefetch(["org/rows"], folder)
    hub_server.add_model("org/more", {"train.csv": b"a\n1\n"})
    hub.prefetch(["org/more"], folder)
    assert set(json.loads((folder.root / "datasets.json").read_text())["datasets"]) == {"org/rows", "org/more"}


def test_a_dataset_made_by_code_is_refused(hub: DatasetHub, hub_server: HubServer, folder: DatasetFolder) -> None:
    hub_server.add_model("org/script", {"script.py": b"pass"})
    with pytest.raises(EvaluationError, match="made by code of its own, which is never run"):
        hub.prefetch(["org/script"], folder)
    assert not folder.root.exists()


def test_a_dataset_that_is_too_large_is_refused(
    hub: DatasetHub, folder: DatasetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_hub, "MAX_DATASET_BYTES", 3)
    with pytest.raises(HubRefusedError, match="more than"):
        hub.prefetch(["org/rows"], folder)


def test_an_unknown_dataset_is_named(hub: DatasetHub, folder: DatasetFolder) -> None:
    with pytest.raises(ModelNotFoundError, match="org/nothing"):
        hub.prefetch(["org/nothing"], folder)


@pytest.mark.parametrize("kind", ["flip", "truncate"])
def test_half_a_dataset_is_no_dataset(kind: str, hub: DatasetHub, hub_server: HubServer, folder: DatasetFolder) -> None:
    failure = Failure.corrupted_body() if kind == "flip" else Failure.truncated_body()
    hub_server.fail("resolve", failure, times=20, path_contains="test.jsonl")
    with pytest.raises((DownloadCorruptedError, HubUnavailableError)):
        hub.prefetch(["org/rows"], folder)
    assert _names(folder) == []


def test_a_fetch_can_be_stopped(hub: DatasetHub, folder: DatasetFolder) -> None:
    with pytest.raises(StopRequested):
        hub.prefetch(["org/rows"], folder, should_stop=lambda: True)
    assert _names(folder) == []


def test_a_hub_that_is_not_there_is_said(folder: DatasetFolder, sleeps: Sleeps) -> None:
    hub = DatasetHub(HubClient("http://127.0.0.1:9", attempts=2, sleep=sleeps))
    with pytest.raises(HubUnavailableError, match="could not be reached for org/rows"):
        hub.prefetch(["org/rows"], folder)
