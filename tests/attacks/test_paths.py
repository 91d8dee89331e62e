"""Names that lead out of their folder: of files in a repository, of repositories, revisions, texts and jobs."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.hub.client import HubClient
from service.hub.errors import DownloadCorruptedError, InvalidRepoIdError, RevisionNotFoundError
from service.hub.model import RepoFile
from srr_core.checkpoint.carried_files import module_folders
from srr_core.errors import CheckpointError
from tests.attacks.conftest import Installation
from tests.attacks.kinds import KINDS
from tests.attacks.routes import ways
from tests.service.models import model_files, write_model
from tests.worker.artifacts import source
from worker.download_meter import DownloadMeter
from worker.folder_hub import FolderHub
from worker.hub_files import fetch_file

NAMES = (
    *("../up.json", "/etc/absolute.json", "tokenizer/../../up.json", "tokenizer.json/../../up.json", "./here.json"),
    *("additional_chat_templates/../../up.jinja", "..\\up.json", "tokenizer//twice.json"),
    *("tokenizer_-/../../../up.json", "-option.json", ".hidden.json", "tokenizer/.git/config"),
)
IDS = ("../up", "a/..", "a/../../b", "/etc/passwd", "a/b/c", "a\\..\\b", "a/%2e%2e", "a/b.git", "..", "a/b\n")
REVISIONS = ("../../main", "/etc/passwd", "heads/../../../x", "a\\b", "-x", ".git/config", "main\0")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modules", [None, [{"path": "tokenizer"}, {"path": "additional_chat_templates"}]])
def test_no_file_outside_of_its_folder_is_ever_wanted(name: str, modules: Any) -> None:
    files = (RepoFile("config.json", 2), RepoFile("model.safetensors", 8), RepoFile(name, 4))
    model = source(files=files, modules=modules)

    assert name not in {file.path for file in model.whole_downloads}
    assert {file.path for file in model.downloads} >= {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", NAMES)
def test_no_file_outside_of_its_folder_is_ever_fetched(installation: Installation, tmp_path: Path, name: str) -> None:
    inside = tmp_path / "deep" / "down" / "inside"
    inside.mkdir(parents=True)
    client, meter, listed = HubClient(installation.hub.url), DownloadMeter(4, None, None), RepoFile(name, 4)
    asked = len(installation.hub.requests)
    revision = installation.hub.repository("org/model").head.oid

    with pytest.raises(DownloadCorruptedError):
        fetch_file(client, "org/model", listed, inside, repo_type="model", revision=revision, token=None, meter=meter)

    assert len(installation.hub.requests) == asked
    assert list((tmp_path / "deep").rglob("*")) == [inside.parent, inside]


@pytest.mark.parametrize("path", ["../up", "/etc", "a/../..", "..", "a\\b", 3, {"a": 1}])
def test_a_part_of_a_model_outside_of_its_folder_is_no_part(path: object) -> None:
    with pytest.raises(CheckpointError):
        module_folders([{"path": path}])


@pytest.mark.parametrize("file", ["../model.safetensors", "/model.safetensors", "a/../../b.safetensors", "a\\b", ""])
def test_weights_outside_of_the_folder_are_refused(installation: Installation, file: str) -> None:
    files = model_files(card="---\nlicense: mit\n---\n")
    index = json.dumps({"weight_map": {"model.embed_tokens.weight": file}}).encode()
    by_index = {"config.json": files["config.json"], "model.safetensors.index.json": index}
    installation.hub.add_model("org/index", by_index)
    installation.hub.add_model("org/named", model_files(transformers_weights=file))
    header = installation.bearer("ann")

    for model_id in ("org/index", "org/named"):
        answer = installation.http.post("/v1/models:inspect", json={"model_id": model_id}, headers=header)
        codes = [answer.json().get("code"), *(problem["code"] for problem in answer.json().get("problems", ()))]
        assert {"invalid_weights", "invalid_checkpoint"} & set(codes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_id", IDS)
def test_a_name_that_no_hub_can_hold_reaches_none(installation: Installation, kind: str, model_id: str) -> None:
    header, asked = installation.bearer("ann"), len(installation.hub.requests)

    answers = [
        installation.submit(header, model_id, "acme/out", kind=kind),
        installation.submit(header, "org/model", model_id, kind=kind),
        installation.http.post("/v1/models:inspect", json={"model_id": model_id}, headers=header),
    ]

    assert [answer.status_code for answer in answers] == [422] * 3
    paths = [request.path for request in installation.hub.requests[asked:]]
    assert [path for path in paths if "org/model" not in path and "org/artifact" not in path] == []


@pytest.mark.parametrize("name", [*IDS, "acme/../../../up"])
def test_the_folder_hub_never_leaves_its_root(tmp_path: Path, name: str) -> None:
    hub = FolderHub(tmp_path / "deep" / "hub")
    model = write_model(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))

    for act in (hub.resolve, hub.destination, hub.remove, lambda one: hub.import_model(model, one)):
        with pytest.raises(InvalidRepoIdError):
            act(name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_names_nothing_outside_of_its_repository(
    installation: Installation, tmp_path: Path, revision: str
) -> None:
    hub = FolderHub(tmp_path / "hub")
    hub.import_model(write_model(tmp_path / "model"), "acme/base")
    header = installation.bearer("ann")
    wanted = {"model_id": "org/model", "revision": revision}

    answer = installation.http.post("/v1/models:inspect", json=wanted, headers=header)

    with pytest.raises(RevisionNotFoundError):
        hub.resolve("acme/base", revision)
    assert answer.status_code in (404, 422)


@pytest.mark.parametrize("sha256", ["../" * 21 + "a", "/" * 64, "%2e%2e%2f" * 7 + "a", "A" * 64, "a" * 63 + "\n"])
def test_a_text_is_named_by_its_digest_only(installation: Installation, sha256: str) -> None:
    installation.tenancy.lend("ann", "acme")

    refused = installation.submit(installation.bearer("ann"), "org/model", "acme/out", calibration={"sha256": sha256})

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("hop", ["..%2f", "..%5c", "%2e%2e/", "....//", "..;/", "%252e%252e%252f"])
def test_no_address_leads_to_a_file_of_the_machine(installation: Installation, hop: str) -> None:
    header = installation.bearer("ann")
    stems = {way.path.split("{")[0] for way in ways(installation.http.app) if "{" in way.path and way.method == "GET"}  # type: ignore[arg-type]
    ends = ("pyproject.toml", "etc/passwd", "data/jobs.sqlite3")

    answers = [
        installation.http.get(f"{stem}{hop * depth}{end}", headers=header)
        for stem in (*sorted(stems), "/static/")
        for depth in (1, 3, 8)
        for end in ends
    ]

    # What the client makes of %2e%2e/ may be a page of ours; a file of the machine is none.
    told = [answer.text for answer in answers if answer.status_code == 200]
    assert not any("[project]" in text or "root:" in text or "SQLite format" in text for text in told)
    assert {answer.status_code for answer in answers} <= {200, 307, 404, 405, 422}
