"""The form of a conversion and the pages of its job, as a browser without a script uses them."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.work import ConvertWork
from srr_core.recipe.exporters import GGUFSpec, MergedSpec
from tests.service import finished
from tests.service.api.test_conversions import give
from tests.service.web.visiting import only_job, token_of
from tests.srr_core.telling import reports
from worker.folder_hub import FolderHub


@pytest.fixture
def artifact(hub: FolderHub, tmp_path: Path) -> str:
    give(hub, tmp_path / "artifact", reports.report())
    return "org/model-srr"


def post(http: TestClient, **fields: str) -> str:
    """Send the form and return the page it leads to."""
    return http.post("/convert", data={"csrf_token": token_of(http, "/convert"), **fields}).text


def test_the_form_becomes_a_conversion(http: TestClient, job_store: MemoryJobStore, artifact: str) -> None:
    page = post(http, model_id=artifact, target="gguf", merged="q8_0", tags="nightly")

    work = job_store.get(only_job(job_store)).work
    assert isinstance(work, ConvertWork)
    assert (work.target, work.destination.repo_id) == (GGUFSpec(merged="q8_0"), "org/model-srr-gguf")
    assert "to org/model-srr-gguf" in page


def test_running_a_conversion_again_loses_nothing(http: TestClient, job_store: MemoryJobStore, artifact: str) -> None:
    post(http, model_id=artifact, target="merged", dtype="float16", repo_id="org/mine", visibility="private")
    first = job_store.get(only_job(job_store))

    form = http.get(f"/convert?from={first.id}").text

    assert 'name="target" value="merged" checked' in form
    assert '<option value="float16" selected>' in form
    assert 'value="org/mine"' in form
    assert '<option value="private" selected>' in form
    again = post(
        http,
        again=first.id,
        model_id=artifact,
        target="merged",
        dtype="float16",
        repo_id="org/mine",
        visibility="private",
    )
    assert "You already have this job" in again
    assert isinstance(first.work, ConvertWork)
    assert first.work.target == MergedSpec(dtype="float16")


def test_what_cannot_be_had_is_said_beside_what_was_typed(http: TestClient, artifact: str, hub: FolderHub) -> None:
    page = post(http, model_id=artifact, target="gptq", revision="absent", repo_id="not a name")

    assert "Write it as organization/name" in page
    assert f'value="{artifact}"' in page
    assert 'name="target" value="gptq" checked' in page


@pytest.mark.usefixtures("org_model")
def test_a_finished_compression_leads_to_its_conversions(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store, document=reports.report(is_stock=False))

    page = http.get(f"/jobs/{job.id}").text
    form = http.get(f"/convert?from={job.id}&to=merged").text

    assert f'href="/convert?from={job.id}&amp;to=merged"' in page
    assert f'href="/convert?from={job.id}&amp;to=gptq"' not in page
    assert "plain linear layers only" in page
    assert 'name="target" value="merged" checked' in form
    assert f'name="model_id" value="{job.work.destination_id}"' in form


def test_the_page_of_the_job_shows_what_was_written(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.converted(job_store)

    page = http.get(f"/jobs/{job.id}").text

    assert "model.gguf" in page
    assert "to org/model-srr-gguf" in page
    assert f'href="/convert?from={job.id}"' in page
