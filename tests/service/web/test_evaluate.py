"""The form of an evaluation and the page of its job, without a script."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, JobSubmission
from service.jobs.work import EvaluateWork, JobSource, StoredText
from srr_core.recipe.evaluations import HarnessSpec, SamplesSpec, TextDivergenceSpec
from tests.service import finished
from tests.service.models import write_model
from tests.service.submitting import submitted
from tests.service.web.visiting import only_job, token_of
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")


def test_the_form_becomes_an_evaluation(http: TestClient, job_store: MemoryJobStore) -> None:
    token = token_of(http, "/evaluate")
    data = {
        "csrf_token": token,
        "model_id": "org/model",
        "reference_id": "org/model",
        "divergence": "on",
        "harness": "on",
        "suite": "quick",
        "limit": "20",
        "tags": "nightly",
    }
    answer = http.post("/evaluate", data=data, files={"text": ("text.txt", "Some words.")}, follow_redirects=False)

    assert answer.status_code == 303
    work = job_store.get(only_job(job_store)).work
    assert isinstance(work, EvaluateWork)
    assert [spec.model_dump(include={"kind", "suite", "limit"}, exclude_none=True) for spec in work.evaluators] == [
        {"kind": "divergence"},
        {"kind": "harness", "suite": "quick", "limit": 20},
    ]
    assert work.destination is None
    assert work.text is not None
    assert job_store.text(str(work.text.sha256)) == "Some words."
    again = http.get(f"/evaluate?from={only_job(job_store)}").text
    assert 'value="quick" selected' in again
    assert http.get(f"/?from={only_job(job_store)}").url.path == "/evaluate"


def test_running_an_evaluation_again_loses_nothing(http: TestClient, job_store: MemoryJobStore) -> None:
    work = EvaluateWork(
        source=JobSource(model_id="org/model"),
        reference=JobSource(model_id="org/model"),
        evaluators=(
            TextDivergenceSpec(num_sequences=5, sequence_length=64),
            HarnessSpec(tasks=("arc_easy",), num_fewshot=3, limit=10),
        ),
        text=StoredText(text="Some words."),
    )
    first = submitted(job_store, JobSubmission(work=work, tags=("nightly",), max_attempts=2), owner="local")

    page = http.get("/evaluate", params={"from": first.id}).text
    typed = {
        "csrf_token": token_of(http, "/evaluate"),
        "force": "on",
        "divergence": "on",
        "harness": "on",
        **dict(re.findall(r'name="(again|model_id|reference_id|limit|tags)" value="([^"]*)"', page)),
    }
    answer = http.post("/evaluate", data=typed)

    assert answer.status_code == 200
    latest = job_store.list(JobFilter(), limit=1).jobs[0]
    assert latest.id != first.id
    assert latest.work.model_dump(include={"evaluators", "text"}) == first.work.model_dump(
        include={"evaluators", "text"}
    )
    assert (latest.tags, latest.max_attempts) == (first.tags, first.max_attempts)


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"model_id": "nobody"}, "model_id", "Write it as organization/name"),
        ({"model_id": "org/model", "reference_id": "nobody"}, "reference_id", "Write it as organization/name"),
        ({"model_id": "org/model", "harness": "on", "limit": "many"}, "limit", "whole number"),
        ({"model_id": "org/model", "divergence": "on"}, "", "needs a model to compare with"),
    ],
)
def test_a_wrong_field_is_shown_with_what_was_typed(
    http: TestClient, typed: dict[str, str], field: str, said: str
) -> None:
    answer = http.post("/evaluate", data={**typed, "csrf_token": token_of(http, "/evaluate")})

    assert answer.status_code == 422
    assert said in answer.text
    assert not field or f'id="{field}-error"' in answer.text
    assert f'value="{typed["model_id"]}"' in answer.text


def test_the_page_of_the_job_shows_what_was_measured(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.measured(job_store)

    page = http.get(f"/jobs/{job.id}").text
    assert "Divergence from the source" in page
    assert "± 0.0014" in page
    assert "not published" in page
    assert f"/jobs/{job.id}/report" in page
    assert "Compared with org/model" in http.get(f"/jobs/{job.id}/report").text


def test_lists_and_comparisons_tell_the_kinds_apart(http: TestClient, job_store: MemoryJobStore) -> None:
    finished.measured(job_store)
    page = http.get("/jobs").text
    assert "Evaluation" in page
    assert 'name="job"' not in page
    assert "No finished job" in http.get("/compare?model_id=org/model-srr").text


def test_a_prompt_of_the_result_page_becomes_an_evaluation_of_both(
    http: TestClient, job_store: MemoryJobStore, hub: FolderHub, tmp_path: Path
) -> None:
    hub.import_model(write_model(tmp_path / "made"), "org/model-srr")
    done = finished.succeeded(job_store)
    page = http.get(f"/jobs/{done.id}").text
    form = page[page.index('action="/evaluate"') :]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[: form.index("</form>")]))

    http.post("/evaluate", data={**hidden, "revision": "main", "reference_revision": "main", "prompts": "One\n\nTwo "})

    (job, _) = job_store.list(JobFilter(), limit=10).jobs
    assert isinstance(job.work, EvaluateWork)
    assert (hidden["revision"], hidden["reference_revision"]) == ("b" * 40, finished.SHA)
    assert (job.work.source.model_id, job.work.reference and job.work.reference.model_id) == (
        "org/model-srr",
        "org/model",
    )
    assert job.work.evaluators == (SamplesSpec(prompts=("One", "Two")),)
    assert ">One\nTwo</textarea>" in http.get(f"/evaluate?from={job.id}").text


def test_answers_stand_beside_each_other(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.answered(job_store)

    pages = [http.get(f"/jobs/{job.id}{end}").text for end in ("", "/report")]
    told = http.get(f"/v1/jobs/{job.id}/report?format=markdown").text

    for page in pages:
        places = [page.index(words) for words in ("The river", "to the sea.", "the boat.", "The first 2 of 8 tokens")]
        assert places == sorted(places)
    assert "| The river | carries the letter to the sea. | carries the boat. | 2 |" in told


def test_a_finished_compression_leads_to_its_evaluation(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)
    assert f'href="/evaluate?from={job.id}"' in http.get(f"/jobs/{job.id}").text
    form = http.get(f"/evaluate?from={job.id}").text
    assert 'value="org/model-srr"' in form
    assert 'value="org/model"' in form
