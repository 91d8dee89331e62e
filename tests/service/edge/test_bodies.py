"""Bodies that are no JSON, or whose text is no text."""

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("body", [b"{", b'{"source": \xff}', b'{"a": 1} trailing', DEEP])
def test_a_body_that_is_no_json_is_called_malformed(http: TestClient, body: bytes) -> None:
    answer = http.post("/v1/jobs", content=body, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"])
def test_a_body_of_another_type_is_unsupported_and_told_which_one_is(http: TestClient, content_type: str) -> None:
    answer = http.post("/v1/jobs", content=b"{}", headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in answer.json()["detail"]


def test_a_body_that_is_missing_names_the_missing_field(http: TestClient) -> None:
    answer = http.post("/v1/jobs", headers=JSON)

    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"field": "body", "message": "is needed", "code": None}],
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", b'{"source": {"model_id": "a/b"}, "destination": {"repo_id": "a/c"}, "hub_token": "\\ud800"}'),
        ("/v1/jobs", b'{"source": {"model_id": "a/b"}, "destination": {"repo_id": "a/c"}, "recipe": "\\udfff"}'),
        ("/v1/jobs", '{"source": {"model_id": "a/b"}, "recipe": "\udcff"}'.encode("utf-8", "surrogatepass")),
        ("/v1/jobs", '{"recipe": "\ud800"}'.encode("utf-16-le", "surrogatepass")),
        ("/v1/api-keys", b'{"name": "\\ud800", "scopes": ["jobs:read"]}'),
        ("/v1/watches", b'{"name": "\\ud800", "pattern": "a/*", "destination": "a/{name}"}'),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(http: TestClient, path: str, body: bytes) -> None:
    answer = http.post(path, content=body, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "surrogate" in answer.json()["errors"][0]["message"]


@pytest.mark.usefixtures("org_model")
def test_a_whole_pair_and_the_words_for_half_of_one_are_text(http: TestClient, job_store: MemoryJobStore) -> None:
    text = rb'"text": "\ud83d\ude00 \\ud800"'
    body = b'{"source": {"model_id": "org/model"}, "destination": {"repo_id": "a/c"}, "calibration": {%s}}' % text

    assert http.post("/v1/jobs", content=body, headers=JSON).status_code == 202
    (job,) = job_store.list(JobFilter(), limit=1).jobs
    assert job.work.calibration is not None
    assert job_store.text(str(job.work.calibration.sha256)) == "\U0001f600 \\ud800"


def test_a_nul_in_a_name_is_refused_in_words(http: TestClient) -> None:
    answer = http.post("/v1/api-keys", json={"name": "a\0", "scopes": ["jobs:read"]})

    assert (answer.status_code, answer.json()["code"]) == (422, "unstorable_text")
