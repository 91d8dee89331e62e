"""What every hub does, over the folder hub, Git LFS and Xet."""

import json
from pathlib import Path

import pytest

from service.hub.errors import (
    DestinationConflictError,
    InvalidRepoIdError,
    LicenseError,
    ModelNotFoundError,
    NoSafetensorsError,
    PublicationRefusedError,
    RemoteCodeError,
    RevisionNotFoundError,
    StaleParentError,
)
from srr_core.errors import StopRequested
from tests.hub_server.seeded import Seeded, read_files, write_files

# The client's own upload by Git LFS warns about an argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

WEIGHTS = bytes(range(256)) * 512
CARD = b"---\nlicense: apache-2.0\nlanguage: en\ntags:\n- tiny\n---\n# Base\n"
BASE = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "README.md": CARD,
    "LICENSE": b"Apache License",
    "modeling_custom.py": b"raise SystemExit",
    "tokenizer_hack.py": b"raise SystemExit",
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"a graph",
}
DOWNLOADED = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "LICENSE"}


def artifact(folder: Path, *, source: str = "acme/base", weights: bytes = WEIGHTS[::-1], **more: bytes) -> Path:
    report = {"schema_version": 1, "environment": {"core_version": "1.0"}, "source": {"id": source}}
    files = {
        "model.safetensors": weights,
        "config.json": b"{}",
        "report.json": json.dumps(report).encode(),
        "README.md": b"---\nlicense: apache-2.0\n---\n# Compressed\n",
    }
    return write_files(folder, {**files, **more})


def test_a_branch_resolves_to_its_commit_with_what_is_known_of_the_model(seeded: Seeded) -> None:
    sha = seeded.seed("acme/base", BASE)

    model = seeded.hub.resolve("acme/base", "main")

    assert (model.model_id, model.sha, model.private, model.gated) == ("acme/base", sha, False, False)
    assert model.license == "apache-2.0"
    assert model.languages == ("en",)
    assert model.architectures == ("LlamaForCausalLM",)
    assert {file.path: file.size_bytes for file in model.files} == {name: len(data) for name, data in BASE.items()}
    assert model.weight_bytes == len(WEIGHTS)


def test_a_commit_and_a_tag_keep_their_meaning_when_the_branch_moves(seeded: Seeded) -> None:
    first = seeded.seed("acme/base", BASE)
    seeded.tag("acme/base", "v1.0")
    second = seeded.seed("acme/base", {**BASE, "config.json": b'{"model_type": "opt"}'})

    resolved = [seeded.hub.resolve("acme/base", name).sha for name in (first, "v1.0", "main")]

    assert resolved == [first, first, second]
    assert first != second


def test_only_allowed_files_are_downloaded_and_never_code(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)

    folder = seeded.hub.download(seeded.hub.resolve("acme/base"), tmp_path / "download")

    assert read_files(folder) == {name: BASE[name] for name in DOWNLOADED}


def test_a_download_reports_bytes_up_to_the_total(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    model = seeded.hub.resolve("acme/base")
    seen: list[tuple[int, int]] = []

    seeded.hub.download(model, tmp_path / "download", on_progress=lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert seen[-1] == (model.download_bytes, model.download_bytes)


def test_a_stopped_download_keeps_finished_files_and_can_be_resumed(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    model = seeded.hub.resolve("acme/base")
    arrived: list[int] = []

    with pytest.raises(StopRequested):
        seeded.hub.download(
            model,
            tmp_path / "download",
            on_progress=lambda done, total: arrived.append(done),
            should_stop=lambda: bool(arrived and arrived[-1] > len(BASE["LICENSE"])),
        )

    assert (tmp_path / "download" / "LICENSE").read_bytes() == BASE["LICENSE"]
    assert not (tmp_path / "download" / "model.safetensors").exists()
    folder = seeded.hub.download(model, tmp_path / "download")
    assert set(read_files(folder)) == DOWNLOADED


def test_leftovers_of_another_revision_do_not_survive_a_download(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    write_files(tmp_path / "download", {"model.safetensors": b"old", "old.safetensors": b"old", "sub/old": b"old"})

    folder = seeded.hub.download(seeded.hub.resolve("acme/base"), tmp_path / "download")

    assert read_files(folder) == {name: BASE[name] for name in DOWNLOADED}


@pytest.mark.parametrize("model_id", ["acme/missing", "nobody/base"])
def test_an_unknown_model_is_named_in_the_error(seeded: Seeded, model_id: str) -> None:
    seeded.seed("acme/base", BASE)

    with pytest.raises(ModelNotFoundError, match=model_id) as caught:
        seeded.hub.resolve(model_id)

    assert (caught.value.code, caught.value.retryable) == ("model_not_found", False)


@pytest.mark.parametrize("revision", ["v9", "0" * 40, "feature/none"])
def test_an_unknown_revision_is_named_in_the_error(seeded: Seeded, revision: str) -> None:
    seeded.seed("acme/base", BASE)

    with pytest.raises(RevisionNotFoundError, match=revision):
        seeded.hub.resolve("acme/base", revision)


@pytest.mark.parametrize("model_id", ["../secrets/x", "a//b", "acme/..", "-acme/base", "acme/ba se", "acme/x.git"])
def test_an_id_that_is_none_is_refused(seeded: Seeded, model_id: str) -> None:
    with pytest.raises(InvalidRepoIdError):
        seeded.hub.resolve(model_id)


def test_a_model_with_pickle_weights_only_is_refused_before_the_download(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})

    with pytest.raises(NoSafetensorsError, match="acme/base"):
        seeded.hub.download(seeded.hub.resolve("acme/base"), tmp_path / "download")

    assert not (tmp_path / "download").exists()


def test_a_model_that_needs_its_own_code_is_refused_before_the_download(seeded: Seeded, tmp_path: Path) -> None:
    config = json.dumps({"auto_map": {"AutoModelForCausalLM": "modeling_custom.Custom"}}).encode()
    seeded.seed("acme/base", {**BASE, "config.json": config})

    with pytest.raises(RemoteCodeError, match="auto_map"):
        seeded.hub.download(seeded.hub.resolve("acme/base"), tmp_path / "download")

    assert not (tmp_path / "download").exists()


def test_a_license_without_derivatives_is_refused(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", {**BASE, "README.md": b"---\nlicense: cc-by-nc-nd-4.0\n---\n"})

    with pytest.raises(LicenseError, match=r"cc-by-nc-nd-4\.0"):
        seeded.hub.download(seeded.hub.resolve("acme/base"), tmp_path / "download")


def test_an_artifact_is_published_as_one_commit_and_can_be_downloaded(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    source = seeded.hub.resolve("acme/base")
    folder = artifact(tmp_path / "artifact")

    parent = seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source)
    commit = seeded.hub.publish(
        "alice/out", folder, parent_sha=parent, message="Publish", description="job_1", token=seeded.token
    )

    published = seeded.hub.resolve("alice/out", token=seeded.token)
    assert published.sha == commit.sha != parent
    assert commit.sha in commit.url
    again = seeded.hub.download(published, tmp_path / "again", token=seeded.token)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    head = seeded.hub.head("alice/out", token=seeded.token)
    assert head is not None
    assert (head.sha, head.description) == (commit.sha, "job_1")


def test_a_new_artifact_replaces_the_files_of_the_old_one(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    source = seeded.hub.resolve("acme/base")
    first = artifact(tmp_path / "first", **{"model-00002.safetensors": b"second shard"})
    second = artifact(tmp_path / "second", weights=b"other weights")

    parent = seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source)
    seeded.hub.publish("alice/out", first, parent_sha=parent, message="m", description="job_1", token=seeded.token)
    parent = seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source)
    seeded.hub.publish("alice/out", second, parent_sha=parent, message="m", description="job_2", token=seeded.token)

    files = {file.path for file in seeded.hub.resolve("alice/out", token=seeded.token).files}
    assert files - {".gitattributes"} == set(read_files(second))


def test_publishing_again_under_the_same_job_changes_nothing(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    source = seeded.hub.resolve("acme/base")
    folder = artifact(tmp_path / "artifact")
    parent = seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source)

    first = seeded.hub.publish(
        "alice/out", folder, parent_sha=parent, message="m", description="job_1", token=seeded.token
    )
    (folder / "config.json").write_bytes(b'{"seconds": 2}')
    second = seeded.hub.publish(
        "alice/out", folder, parent_sha=parent, message="m", description="job_1", token=seeded.token
    )

    assert second.sha == first.sha


def test_a_branch_that_moved_is_not_overwritten(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    source = seeded.hub.resolve("acme/base")
    parent = seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source)
    theirs = artifact(tmp_path / "theirs")
    moved = seeded.hub.publish(
        "alice/out", theirs, parent_sha=parent, message="m", description="job_1", token=seeded.token
    )

    with pytest.raises(StaleParentError) as caught:
        seeded.hub.publish(
            "alice/out",
            artifact(tmp_path / "ours", weights=b"ours"),
            parent_sha=parent,
            message="m",
            description="job_2",
            token=seeded.token,
        )

    assert caught.value.retryable
    assert seeded.hub.resolve("alice/out", token=seeded.token).sha == moved.sha


def test_somebody_elses_repository_is_not_overwritten(seeded: Seeded) -> None:
    seeded.seed("acme/base", BASE)
    before = seeded.seed("acme/theirs", {"model.safetensors": b"theirs", "report.json": b'{"title": "a report"}'})

    with pytest.raises(DestinationConflictError, match="acme/theirs"):
        seeded.hub.prepare("acme/theirs", private=None, token=seeded.token, source=seeded.hub.resolve("acme/base"))

    assert seeded.hub.resolve("acme/theirs").sha == before


def test_an_artifact_of_another_source_is_not_overwritten(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    seeded.seed("acme/out", read_files(artifact(tmp_path / "artifact", source="acme/other")))

    with pytest.raises(DestinationConflictError, match="compression of acme/other"):
        seeded.hub.prepare("acme/out", private=None, token=seeded.token, source=seeded.hub.resolve("acme/base"))


def test_the_source_itself_is_no_destination(seeded: Seeded) -> None:
    seeded.seed("acme/base", BASE)

    with pytest.raises(DestinationConflictError, match="the source itself"):
        seeded.hub.prepare("acme/base", private=None, token=seeded.token, source=seeded.hub.resolve("acme/base"))


@pytest.mark.parametrize(
    ("private_source", "gated_source", "wish", "expected"),
    [
        (False, False, None, False),
        (False, False, True, True),
        (True, False, None, True),
        (True, False, False, False),
        (False, True, None, True),
    ],
)
def test_the_result_is_as_private_as_its_source_unless_asked_otherwise(
    seeded: Seeded, private_source: bool, gated_source: bool, wish: bool | None, expected: bool
) -> None:
    seeded.seed("acme/base", BASE, private=private_source, gated=gated_source)
    source = seeded.hub.resolve("acme/base", token=seeded.token)

    seeded.hub.prepare("alice/out", private=wish, token=seeded.token, source=source)

    assert seeded.is_private("alice/out") is expected


def test_a_gated_source_is_never_published_openly(seeded: Seeded) -> None:
    seeded.seed("acme/base", BASE, gated=True)
    source = seeded.hub.resolve("acme/base", token=seeded.token)

    with pytest.raises(PublicationRefusedError, match="gated"):
        seeded.hub.prepare("alice/out", private=False, token=seeded.token, source=source)

    assert seeded.hub.head("alice/out", token=seeded.token) is None


def test_a_private_result_does_not_go_to_a_public_repository(seeded: Seeded, tmp_path: Path) -> None:
    seeded.seed("acme/base", BASE)
    seeded.seed("acme/out", read_files(artifact(tmp_path / "artifact")))

    with pytest.raises(PublicationRefusedError, match="public"):
        seeded.hub.prepare("acme/out", private=True, token=seeded.token, source=seeded.hub.resolve("acme/base"))


def test_preparing_twice_returns_the_same_head(seeded: Seeded) -> None:
    seeded.seed("acme/base", BASE)
    source = seeded.hub.resolve("acme/base")

    heads = {seeded.hub.prepare("alice/out", private=None, token=seeded.token, source=source) for _ in range(2)}

    assert len(heads) == 1
    assert heads.pop()
