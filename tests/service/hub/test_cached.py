"""What is remembered of a hub, for whom and for how long, over a folder whose files are taken away."""

import shutil
from pathlib import Path

import pytest

from service.hub.cached import MAX_REMEMBERED, REMEMBER_SECONDS, REST_SECONDS, CachedMetadata
from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError, ModelNotFoundError
from service.hub.metadata import HuggingFaceMetadata
from tests.hub_server.failures import Failure
from tests.hub_server.server import HubServer
from tests.service.models import model_files, write_model
from worker.folder_hub import FolderHub


class Clock:
    """Seconds that stand still until they are moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> FolderHub:
    hub = FolderHub(tmp_path / "hub")
    hub.import_model(write_model(tmp_path / "model"), "org/model")
    return hub


def test_a_commit_is_looked_up_once_and_only_for_a_while(folder: FolderHub, clock: Clock) -> None:
    hub = CachedMetadata(folder, clock=clock)
    model = hub.resolve("org/model")
    weights = hub.inspect(model)
    shutil.rmtree(folder.root / "org")

    assert hub.resolve("org/model", model.sha) is model
    assert hub.inspect(model) is weights
    clock.now += REMEMBER_SECONDS
    with pytest.raises(ModelNotFoundError):
        hub.resolve("org/model", model.sha)


def test_a_branch_is_asked_for_every_time(folder: FolderHub, clock: Clock) -> None:
    hub = CachedMetadata(folder, clock=clock)
    hub.resolve("org/model")
    shutil.rmtree(folder.root / "org")

    with pytest.raises(ModelNotFoundError):
        hub.resolve("org/model")


def test_what_one_token_was_told_is_not_told_to_another(hub_server: HubServer, clock: Clock) -> None:
    commit = hub_server.add_model("alice/secret", model_files(), private=True)
    hub = CachedMetadata(HuggingFaceMetadata(HubClient(hub_server.url, attempts=1)), clock=clock)

    assert hub.resolve("alice/secret", commit.oid, token="hf_alice").private
    with pytest.raises(ModelNotFoundError):
        hub.resolve("alice/secret", commit.oid)


def test_the_oldest_entry_makes_room(folder: FolderHub, clock: Clock, tmp_path: Path) -> None:
    hub = CachedMetadata(folder, clock=clock)
    first = hub.resolve("org/model")
    [hub.resolve("org/model", token=str(number)) for number in range(MAX_REMEMBERED)]
    shutil.rmtree(folder.root / "org")

    with pytest.raises(ModelNotFoundError):
        hub.resolve("org/model", first.sha)
    assert hub.resolve("org/model", first.sha, token="1").sha == first.sha


def test_a_hub_that_did_not_answer_is_left_alone_for_a_moment(hub_server: HubServer, clock: Clock) -> None:
    hub_server.add_model("org/model", model_files())
    dead = HuggingFaceMetadata(HubClient("http://127.0.0.1:9", attempts=1))
    hub = CachedMetadata(dead, clock=clock)
    with pytest.raises(HubUnavailableError):
        hub.resolve("org/model")

    with pytest.raises(HubUnavailableError, match="a moment ago") as resting:
        hub.resolve("org/model")
    clock.now += REST_SECONDS
    with pytest.raises(HubUnavailableError, match="could not be reached"):
        hub.resolve("org/model")

    assert resting.value.retry_after_seconds == REST_SECONDS


def test_a_hub_that_cannot_be_reached_with_one_token_is_asked_with_the_others(clock: Clock) -> None:
    hub = CachedMetadata(HuggingFaceMetadata(HubClient("http://127.0.0.1:9", attempts=1)), clock=clock)
    with pytest.raises(HubUnavailableError):
        hub.resolve("org/model", token="hf_alice")

    with pytest.raises(HubUnavailableError, match="a moment ago"):
        hub.resolve("org/other", token="hf_alice")
    with pytest.raises(HubUnavailableError, match="for org/model"):
        hub.resolve("org/model", token="hf_bob")


def test_a_hub_that_answers_is_not_left_alone_whatever_it_answers(hub_server: HubServer, clock: Clock) -> None:
    hub_server.add_model("org/model", model_files())
    hub_server.fail("info", Failure.disconnect(after_handling=False), path_contains="org/broken")
    hub_server.fail("info", Failure.status(503), path_contains="org/broken")
    hub = CachedMetadata(HuggingFaceMetadata(HubClient(hub_server.url, attempts=1)), clock=clock)

    for _ in range(2):
        with pytest.raises(HubUnavailableError):
            hub.resolve("org/broken")
        assert hub.resolve("org/model").model_id == "org/model"
