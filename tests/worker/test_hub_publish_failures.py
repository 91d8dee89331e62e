"""Every way the Hub and the road to it can fail, against preparing and publishing with the real client."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.hub.errors import (
    DestinationConflictError,
    DestinationForbiddenError,
    HubRefusedError,
    HubUnavailableError,
    StaleParentError,
)
from tests.hub_server import Failure, HubServer
from worker.hub import HuggingFaceHub, PublishedCommit
from worker.publisher import published_commit

# The client's own upload by Git LFS warns about an argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BASE = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(range(256)) * 1024}
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(patient_hub: HuggingFaceHub, hub_server: HubServer) -> HuggingFaceHub:
    hub_server.add_model("acme/base", BASE)
    return patient_hub


def artifact(folder: Path, **more: bytes) -> Path:
    report = {"schema_version": 1, "environment": {"core_version": "1.0"}, "source": {"id": "acme/base"}}
    files: Mapping[str, bytes] = {
        WEIGHTS: b"compressed weights",
        "config.json": b"{}",
        "report.json": json.dumps(report).encode(),
        **more,
    }
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def publish(hub: HuggingFaceHub, folder: Path, *, token: str | None = "hf_alice") -> PublishedCommit:
    source = hub.resolve("acme/base")
    parent = hub.prepare("alice/out", private=None, token=token, source=source)
    return hub.publish("alice/out", folder, parent_sha=parent, message="m", description="Job: job_1", token=token)


def test_publishing_without_a_token_is_refused(hub: HuggingFaceHub, tmp_path: Path) -> None:
    with pytest.raises(DestinationForbiddenError, match="token"):
        publish(hub, artifact(tmp_path / "artifact"), token=None)


def test_a_namespace_of_others_is_refused_with_the_ones_that_work(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    with pytest.raises(DestinationForbiddenError, match="acme, alice"):
        hub.prepare("bob/out", private=None, token="hf_alice", source=hub.resolve("acme/base"))

    assert "bob/out" not in hub_server.state.repositories


def test_a_repository_one_may_only_read_is_refused(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("bob/out", {"config.json": b"{}"})

    with pytest.raises(DestinationForbiddenError, match="bob/out"):
        hub.prepare("bob/out", private=None, token="hf_alice", source=hub.resolve("acme/base"))


def test_a_repository_hidden_from_the_token_is_refused(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("alice/out", BASE, private=True)
    hub_server.fail("info", Failure.status(404, error_code="RepoNotFound"), times=2, path_contains="alice/out")

    with pytest.raises(DestinationForbiddenError, match="may not see it"):
        hub.prepare("alice/out", private=None, token="hf_alice", source=hub.resolve("acme/base"))


def test_a_create_whose_answer_was_lost_is_not_a_conflict(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.fail("create", Failure.disconnect(after_handling=True))

    head = hub.prepare("alice/out", private=True, token="hf_alice", source=hub.resolve("acme/base"))

    assert hub_server.repository("alice/out").head.oid == head
    assert hub_server.repository("alice/out").private


def test_a_repository_created_by_somebody_else_meanwhile_is_not_taken(
    hub: HuggingFaceHub, hub_server: HubServer
) -> None:
    hub_server.fail("create", Failure.first(lambda: hub_server.add_model("alice/out", {"model.safetensors": b"x"})))

    with pytest.raises(DestinationConflictError, match="alice/out"):
        hub.prepare("alice/out", private=None, token="hf_alice", source=hub.resolve("acme/base"))


def _commits(hub_server: HubServer) -> int:
    return len(hub_server.repository("alice/out").commits)


def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.fail("commit", Failure.disconnect(after_handling=True))

    commit = publish(hub, artifact(tmp_path / "artifact"))

    assert commit.sha == hub_server.repository("alice/out").head.oid
    assert _commits(hub_server) == 2  # the one of the creation, and ours


def test_a_worker_that_died_after_its_commit_finds_it_again(hub: HuggingFaceHub, tmp_path: Path) -> None:
    commit = publish(hub, artifact(tmp_path / "artifact"))

    assert published_commit(hub, "alice/out", job_id="job_1", token="hf_alice") == commit
    assert published_commit(hub, "alice/out", job_id="job_2", token="hf_alice") is None
    assert published_commit(hub, "alice/out", job_id="job", token="hf_alice") is None
    assert published_commit(hub, "alice/none", job_id="job_1", token="hf_alice") is None


@pytest.mark.parametrize(
    "failure", [Failure.disconnect(after_handling=False), Failure.status(500), Failure.rate_limited(seconds=2)]
)
def test_a_commit_that_did_not_happen_is_repeated(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path, failure: Failure
) -> None:
    hub_server.fail("commit", failure)

    commit = publish(hub, artifact(tmp_path / "artifact"))

    assert commit.sha == hub_server.repository("alice/out").head.oid
    assert _commits(hub_server) == 2


def test_a_commit_that_never_succeeds_leaves_the_head_alone(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.fail("commit", Failure.status(503), times=100)

    with pytest.raises(HubUnavailableError):
        publish(hub, artifact(tmp_path / "artifact"))

    assert _commits(hub_server) == 1


def test_a_push_between_preparing_and_publishing_is_not_overwritten(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.fail("commit", Failure.first(lambda: hub_server.push("alice/out", {"README.md": b"mine"})))

    with pytest.raises(StaleParentError):
        publish(hub, artifact(tmp_path / "artifact"))

    assert hub_server.read("alice/out", "README.md") == b"mine"
    assert WEIGHTS not in hub_server.repository("alice/out").head.files


def test_a_push_during_an_outage_is_not_overwritten(hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path) -> None:
    def push_then_vanish() -> None:
        hub_server.push("alice/out", {"README.md": b"mine"})

    hub_server.fail("commit", Failure("disconnect_after", action=push_then_vanish))

    with pytest.raises(StaleParentError):
        publish(hub, artifact(tmp_path / "artifact"))

    assert hub_server.read("alice/out", "README.md") == b"mine"


@pytest.mark.parametrize("route", ["preupload", "lfs_batch", "lfs_put"])
@pytest.mark.parametrize("failure", [Failure.status(503), Failure.disconnect(after_handling=True)])
def test_an_upload_survives_a_passing_failure(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path, route: str, failure: Failure
) -> None:
    hub_server.fail(route, failure)

    publish(hub, artifact(tmp_path / "artifact"))

    assert hub_server.read("alice/out", WEIGHTS) == b"compressed weights"


def test_a_card_the_hub_rejects_is_named(hub: HuggingFaceHub, tmp_path: Path) -> None:
    with pytest.raises(HubRefusedError, match="metadata block"):
        publish(hub, artifact(tmp_path / "artifact", **{"README.md": b"---\nlicense: mit\n"}))


def test_rights_withdrawn_during_the_job_are_named(hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.fail("commit", Failure.status(403, message="You need write access"))

    with pytest.raises(DestinationForbiddenError, match="alice/out"):
        publish(hub, artifact(tmp_path / "artifact"))


def test_several_shards_become_one_commit(hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path) -> None:
    shards = {f"model-0000{number}-of-00003.safetensors": bytes([number]) * 1000 for number in (1, 2, 3)}

    publish(hub, artifact(tmp_path / "artifact", **shards))

    assert {name: hub_server.read("alice/out", name) for name in shards} == shards
    assert _commits(hub_server) == 2
