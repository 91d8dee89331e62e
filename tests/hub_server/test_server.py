"""The test Hub speaks the real client's protocol: whatever the client can do, it does here too."""

import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_server import Failure, HubServer

# The client's own upload by Git LFS warns about an argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(range(256)) * 256,
    "README.md": b"---\nlicense: mit\n---\n",
}


@pytest.fixture(params=["hub_server", "xet_hub_server"])
def server(request: pytest.FixtureRequest) -> HubServer:
    server: HubServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def api(server: HubServer) -> HfApi:
    return HfApi(endpoint=server.url, token="hf_alice")


def _uploaded(api: HfApi, repo_id: str = "alice/out") -> str:
    api.create_repo(repo_id)
    operations = [CommitOperationAdd(name, content) for name, content in FILES.items()]
    return str(api.create_commit(repo_id, operations, commit_message="first").oid)


def test_the_owner_of_a_token_is_known(api: HfApi) -> None:
    me = api.whoami()

    assert me["name"] == "alice"
    assert [organization["name"] for organization in me["orgs"]] == ["acme"]


def test_an_upload_can_be_downloaded_again(api: HfApi, server: HubServer, tmp_path: Path) -> None:
    sha = _uploaded(api)

    folder = snapshot_download(
        "alice/out", revision=sha, endpoint=server.url, token="hf_alice", cache_dir=tmp_path / "cache"
    )

    found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert {name: found[name] for name in FILES} == FILES
    assert api.verify_repo_checksums("alice/out", cache_dir=tmp_path / "cache").mismatches == []


def test_sizes_are_known_before_a_download(api: HfApi, server: HubServer, tmp_path: Path) -> None:
    _uploaded(api)

    planned = snapshot_download(
        "alice/out", endpoint=server.url, token="hf_alice", cache_dir=tmp_path / "cache", dry_run=True
    )

    sizes = {file.filename: file.file_size for file in planned}
    assert sizes["model.safetensors"] == len(FILES["model.safetensors"])


def test_the_same_commit_again_changes_nothing(api: HfApi) -> None:
    first = _uploaded(api)

    operations = [CommitOperationAdd(name, content) for name, content in FILES.items()]
    second = api.create_commit("alice/out", operations, commit_message="again")

    assert second.oid == first


def test_a_stale_parent_is_refused(api: HfApi) -> None:
    _uploaded(api)
    first = api.list_repo_commits("alice/out")[-1].commit_id

    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(
            "alice/out", [CommitOperationAdd("x.json", b"{}")], commit_message="late", parent_commit=first
        )

    assert caught.value.response.status_code == 412


def test_files_can_be_deleted(api: HfApi) -> None:
    _uploaded(api)

    api.create_commit("alice/out", [CommitOperationDelete("config.json")], commit_message="less")

    assert "config.json" not in api.list_repo_files("alice/out")


def test_branches_and_tags_are_listed(api: HfApi) -> None:
    sha = _uploaded(api)

    api.create_tag("alice/out", tag="v1.0")
    api.create_branch("alice/out", branch="stage/1")

    refs = api.list_repo_refs("alice/out")
    assert {tag.name: tag.target_commit for tag in refs.tags} == {"v1.0": sha}
    assert {branch.name for branch in refs.branches} == {"main", "stage/1"}
    assert api.model_info("alice/out", revision="stage/1").sha == sha


def test_history_and_card_are_readable(api: HfApi) -> None:
    _uploaded(api)

    assert [commit.title for commit in api.list_repo_commits("alice/out")] == ["first", "initial commit"]
    card = api.model_info("alice/out").card_data
    assert card is not None
    assert card.license == "mit"


def test_some_files_can_be_asked_about(api: HfApi) -> None:
    _uploaded(api)

    infos = api.get_paths_info("alice/out", ["config.json", "missing.json"])

    assert [info.path for info in infos] == ["config.json"]
    assert not api.file_exists("alice/out", "missing.json")


def test_an_existing_repository_is_a_conflict_unless_that_is_fine(api: HfApi) -> None:
    api.create_repo("alice/out", private=True)

    assert api.create_repo("alice/out", exist_ok=True).repo_id == "alice/out"
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("alice/out")

    assert caught.value.response.status_code == 409


def test_every_refusal_is_the_clients_own_error(api: HfApi, server: HubServer) -> None:
    server.add_model("acme/base", FILES)
    server.add_model("acme/gated", FILES, gated=True)
    server.add_model("acme/gone", FILES, disabled=True)
    stranger = HfApi(endpoint=server.url, token="hf_bob")

    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/none")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/base", revision="v9")
    with pytest.raises(GatedRepoError):
        stranger.auth_check("acme/gated")
    with pytest.raises(DisabledRepoError):
        api.model_info("acme/gone")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("acme/base", "none.json")


def test_a_renamed_repository_is_found_under_its_old_name(api: HfApi, server: HubServer) -> None:
    server.add_model("acme/base", FILES)
    server.rename("acme/base", "acme/newer")

    assert api.model_info("acme/base").id == "acme/newer"


def test_headers_of_safetensors_are_readable_by_ranges(api: HfApi, server: HubServer) -> None:
    header = b'{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(24)
    server.add_model("acme/base", {"model.safetensors": content})

    metadata = api.parse_safetensors_file_metadata("acme/base", "model.safetensors")

    assert metadata.parameter_count == {"F32": 6}


def test_models_of_an_author_are_listed_newest_change_first(api: HfApi, server: HubServer) -> None:
    server.add_model("acme/old", FILES)
    server.add_model("acme/new", FILES)
    server.add_model("bob/other", FILES)
    server.push("acme/new", {"config.json": b"{}"})

    assert [model.id for model in api.list_models(author="acme", sort="last_modified")] == ["acme/new", "acme/old"]


def test_an_unknown_route_says_so(server: HubServer) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=server.url, token="hf_alice").dataset_info("acme/data")

    assert caught.value.response.status_code == 404


def test_a_failure_happens_as_often_as_asked(api: HfApi, server: HubServer) -> None:
    server.add_model("acme/base", FILES)
    server.fail("info", Failure.status(500), times=2)

    statuses = []
    for _ in range(3):
        try:
            api.model_info("acme/base")
            statuses.append(200)
        except HfHubHTTPError as error:
            statuses.append(error.response.status_code)

    assert statuses == [500, 500, 200]


def test_a_slow_body_takes_its_time(api: HfApi, server: HubServer) -> None:
    server.add_model("acme/base", FILES)
    server.fail("info", Failure.slow_body(0.2))

    begin = time.monotonic()
    api.model_info("acme/base")

    assert time.monotonic() - begin >= 0.2
