"""Evaluations over REST: what is asked for, what is refused, what comes back."""

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from tests.service import finished

pytestmark = pytest.mark.usefixtures("org_model")
BODY = {
    "kind": "evaluate",
    "source": {"model_id": "org/model"},
    "reference": {"model_id": "org/model", "revision": "v1"},
    "evaluators": ["divergence", {"kind": "harness", "suite": "quick"}],
}


def test_an_evaluation_is_accepted_and_pinned_to_commits(http: TestClient, org_model: str) -> None:
    response = http.post("/v1/jobs", json=BODY)

    assert response.status_code == 202
    job = response.json()
    assert (job["kind"], job["recipe"], job["destination"]) == ("evaluate", None, None)
    assert job["work"]["source"]["sha"] == job["work"]["reference"]["sha"] == org_model
    assert [spec["kind"] for spec in job["work"]["evaluators"]] == ["divergence", "harness"]
    assert job["work"]["evaluators"][1]["suite"] == "quick"


def test_the_same_evaluation_is_the_same_job(http: TestClient) -> None:
    first, again = (http.post("/v1/jobs", json=BODY).json()["id"] for _ in range(2))
    other = http.post("/v1/jobs", json={**BODY, "evaluators": ["divergence"]}).json()["id"]

    assert first == again
    assert other != first


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"kind": "evaporate"}, "invalid_request", "body"),
        ({"evaluators": ["perplexityy"]}, "invalid_request", "body.evaluators.0"),
        ({"evaluators": ["divergence", "divergence"]}, "invalid_request", "body.evaluators"),
        ({"evaluators": [{"kind": "harness", "limit": 0}]}, "invalid_request", "limit"),
        ({"recipe": "srr"}, "invalid_request", "body.recipe"),
        ({"source": {"model_id": "../etc"}}, "invalid_request", "body.source.model_id"),
        ({"reference": {"model_id": "org/absent"}}, "model_not_found", "body.reference.model_id"),
        ({"reference": None}, "invalid_evaluation_text", "body.evaluators"),
        ({"evaluators": ["glue", "perplexity"]}, "invalid_evaluation_text", "body.evaluators"),
        ({"destination": {"repo_id": "org/model"}}, "invalid_job", ""),
    ],
)
def test_what_cannot_work_is_refused_with_its_field(
    http: TestClient, changes: dict[str, object], code: str, field: str
) -> None:
    response = http.post("/v1/jobs", json={**BODY, **changes})

    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == code
    assert any(field in error["field"] for error in problem["errors"]) or not field


def test_prompts_are_answered_one_job_at_a_time_for_each_owner(http: TestClient, job_store: MemoryJobStore) -> None:
    asked = http.post("/v1/jobs", json={**BODY, "evaluators": [{"kind": "samples", "prompts": ["The river"]}]}).json()
    other = http.post("/v1/jobs", json={**BODY, "evaluators": ["perplexity"]}).json()

    assert [job_store.get(job["id"]).max_running for job in (asked, other)] == [1, None]
    assert asked["work"]["evaluators"][0]["prompts"] == ["The river"]


def test_prompts_are_for_small_models(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srr_core.recipe.evaluations.MAX_SAMPLED_BYTES", 1000)

    problem = http.post("/v1/jobs", json={**BODY, "evaluators": ["samples", "perplexity"]}).json()

    assert "samples is for small models: org/model has" in problem["detail"]
    assert "these would run: perplexity" in problem["detail"]


def test_what_fits_is_named_beside_what_does_not(http: TestClient) -> None:
    problem = http.post("/v1/jobs", json={**BODY, "evaluators": ["glue", "perplexity"]}).json()

    assert "glue needs a classifier, and LlamaForCausalLM is none; these would run: perplexity" in problem["detail"]


def test_a_validation_says_what_would_stop_it(http: TestClient) -> None:
    answer = http.post("/v1/jobs:validate", json={**BODY, "reference": None}).json()

    assert not answer["valid"]
    assert answer["estimate"] is None
    assert "divergence needs a model to compare with" in answer["problems"][0]["message"]


def test_the_report_is_served_in_every_form(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.measured(job_store)

    document = http.get(f"/v1/jobs/{job.id}/report").json()
    assert document["measurements"][0]["metric"] == "divergence@32"
    page = http.get(f"/v1/jobs/{job.id}/report", params={"format": "html"}).text
    assert "Divergence from the source" in page
    assert "0.0312" in page
    assert "| Divergence" not in page
    markdown = http.get(f"/v1/jobs/{job.id}/report", params={"format": "markdown"}).text
    assert "# org/model-srr, measured" in markdown
    assert "divergence@32" in markdown


def test_jobs_are_listed_by_kind(http: TestClient, job_store: MemoryJobStore) -> None:
    measured, compressed = finished.measured(job_store), finished.succeeded(job_store)

    of_kind = {
        kind: [job["id"] for job in http.get("/v1/jobs", params={"kind": kind}).json()["jobs"]]
        for kind in ("evaluate", "compress")
    }
    assert of_kind == {"evaluate": [measured.id], "compress": [compressed.id]}
