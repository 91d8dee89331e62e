"""Publishing an artifact: all of it in one commit, once per job."""

import json
from pathlib import Path

import pytest

from service.hub.errors import DestinationConflictError
from srr_core.errors import VerificationError
from tests.worker.artifacts import report, source, write_artifact
from worker.folder_hub import FolderHub
from worker.hub import PublishedCommit
from worker.publisher import publish_artifact, published_commit


@pytest.fixture
def hub(tmp_path: Path) -> FolderHub:
    return FolderHub(tmp_path / "hub")


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "LICENSE").write_text("the licence")
    (folder / "USE_POLICY.md").write_text("the policy")
    (folder / "model.safetensors").write_bytes(b"original weights")
    return folder


def _publish(hub: FolderHub, artifact: Path, downloaded: Path, *, job_id: str = "job_1") -> PublishedCommit:
    return publish_artifact(
        hub,
        artifact,
        repo_id="alice/out",
        report=report(),
        source=source(),
        source_directory=downloaded,
        job_id=job_id,
        token=None,
        private=None,
    )


def test_checkpoint_report_recipe_card_and_licence_are_one_commit(
    hub: FolderHub, tmp_path: Path, downloaded: Path
) -> None:
    commit = _publish(hub, write_artifact(tmp_path / "artifact", report()), downloaded)

    snapshot = hub.existing("alice/out").snapshot(commit.sha)
    assert {path.name for path in snapshot.iterdir()} == {
        "model.safetensors",
        "adapter_model.safetensors",
        "adapter_config.json",
        "config.json",
        "report.json",
        "recipe.json",
        "README.md",
        "pictures",
        "LICENSE",
        "USE_POLICY.md",
    }
    assert (snapshot / "LICENSE").read_text() == "the licence"
    assert (snapshot / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((snapshot / "report.json").read_text())["source"]["id"] == "acme/base"
    assert commit.url == snapshot.as_uri()


def test_the_published_repository_is_known_as_quantized_from_its_source(
    hub: FolderHub, tmp_path: Path, downloaded: Path
) -> None:
    _publish(hub, write_artifact(tmp_path / "artifact", report()), downloaded)

    published = hub.resolve("alice/out")
    assert published.license == "apache-2.0"
    assert "srr" in published.tags
    assert hub.destination("alice/out").made_from == "acme/base"


def test_a_job_that_published_before_gets_its_commit_back(hub: FolderHub, tmp_path: Path, downloaded: Path) -> None:
    first = _publish(hub, write_artifact(tmp_path / "first", report()), downloaded)
    second_try = write_artifact(tmp_path / "second", report())
    (second_try / "model.safetensors").write_bytes(b"weights of the second attempt")

    again = _publish(hub, second_try, downloaded)

    assert again.sha == first.sha
    assert published_commit(hub, "alice/out", job_id="job_1", token=None) == first


def test_another_job_with_the_same_source_makes_the_next_commit(
    hub: FolderHub, tmp_path: Path, downloaded: Path
) -> None:
    first = _publish(hub, write_artifact(tmp_path / "first", report()), downloaded)
    other = write_artifact(tmp_path / "second", report())
    (other / "model.safetensors").write_bytes(b"other weights")

    second = _publish(hub, other, downloaded, job_id="job_11")

    assert hub.existing("alice/out").commit(second.sha).parent == first.sha
    assert published_commit(hub, "alice/out", job_id="job_1", token=None) is None


def test_nothing_is_published_before_or_without_a_repository(hub: FolderHub) -> None:
    assert published_commit(hub, "alice/out", job_id="job_1", token=None) is None


@pytest.mark.parametrize("missing", ["config.json", "report.json", "recipe.json"])
def test_an_incomplete_artifact_is_not_published(
    hub: FolderHub, tmp_path: Path, downloaded: Path, missing: str
) -> None:
    artifact = write_artifact(tmp_path / "artifact", report())
    (artifact / missing).unlink()

    with pytest.raises(VerificationError, match=missing):
        _publish(hub, artifact, downloaded)

    assert hub.head("alice/out") is None


def test_an_artifact_without_weights_is_not_published(hub: FolderHub, tmp_path: Path, downloaded: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact", report())
    for shard in artifact.glob("*.safetensors"):
        shard.unlink()

    with pytest.raises(VerificationError, match="safetensors"):
        _publish(hub, artifact, downloaded)


def test_an_adapter_of_another_repository_is_not_published(hub: FolderHub, tmp_path: Path, downloaded: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact", report())
    (artifact / "adapter_config.json").write_text('{"base_model_name_or_path": "alice/elsewhere"}')

    with pytest.raises(VerificationError, match="alice/elsewhere"):
        _publish(hub, artifact, downloaded)

    assert hub.head("alice/out") is None


def test_a_report_of_another_run_is_not_published(hub: FolderHub, tmp_path: Path, downloaded: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact", report(mean_output_error=0.5))

    with pytest.raises(VerificationError, match="not the report of this run"):
        _publish(hub, artifact, downloaded)


def test_somebody_elses_repository_stays_as_it_is(hub: FolderHub, tmp_path: Path, downloaded: Path) -> None:
    before = hub.import_model(downloaded, "alice/out")

    with pytest.raises(DestinationConflictError, match="something else"):
        _publish(hub, write_artifact(tmp_path / "artifact", report()), downloaded)

    assert hub.resolve("alice/out").sha == before
