"""A folder of this machine is brought into the hub from the page, where the service is its user's own."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from examples import DEMO_MODEL
from service.app import AppContext, build_app
from service.settings import ServiceSettings
from tests.service.web.visiting import token_of
from worker.folder_hub import FolderHub
from worker.hub_commands import bring


@pytest.fixture
def own(settings: ServiceSettings, app_context: AppContext, hub_dir: Path) -> Iterator[TestClient]:
    """A browser at the service of a user's own machine."""
    context = dataclasses.replace(app_context, bring_model=partial(bring, root=hub_dir))
    with TestClient(build_app(settings, context), base_url="http://localhost") as client:
        yield client


def send(http: TestClient, folder: str, repo_id: str) -> tuple[int, str, str]:
    data = {"folder": folder, "repo_id": repo_id, "csrf_token": token_of(http)}
    response = http.post("/hub-models", data=data, follow_redirects=False)
    return response.status_code, response.headers.get("location", ""), response.text


def test_a_folder_becomes_a_model_of_the_hub_and_the_form_names_it(own: TestClient, hub_dir: Path) -> None:
    status, location, _ = send(own, str(DEMO_MODEL), "me/mine")

    assert (status, location) == (303, "/?model_id=me%2Fmine")
    assert FolderHub(hub_dir).head("me/mine") is not None
    assert 'value="me/mine"' in own.get(location).text


@pytest.mark.parametrize(
    ("folder", "repo_id", "why"),
    [
        ("{}/none", "me/mine", "is no folder on this machine"),
        ("models/mine", "me/mine", "is not a full path"),
        ("", "me/mine", "is not a full path"),
        ("{}", "me/mine", "it has no config.json"),
        (str(DEMO_MODEL), "../mine", "../mine"),
    ],
)
def test_what_cannot_be_brought_is_said_and_stays_typed(
    own: TestClient, hub_dir: Path, tmp_path: Path, folder: str, repo_id: str, why: str
) -> None:
    before = list(FolderHub(hub_dir).repository_ids())
    folder = folder.format(tmp_path)

    status, _, page = send(own, folder, repo_id)

    assert status == 422
    assert why in page
    assert f'name="folder" value="{folder}"' in page
    assert list(FolderHub(hub_dir).repository_ids()) == before


def test_a_service_of_many_reads_no_folders_of_its_machine(http: TestClient) -> None:
    assert 'name="folder"' not in http.get("/").text

    status, _, page = send(http, str(DEMO_MODEL), "me/mine")

    assert status == 422
    assert "reads no folders of its machine" in page
