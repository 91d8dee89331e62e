"""Errors: always a problem document for programs, a page for people, and never a stack trace."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.edge.middleware import CONTENT_SECURITY_POLICY
from service.jobs.memory_store import MemoryJobStore
from service.platform.errors import StoreUnavailableError

PROBLEM = "application/problem+json"


def test_an_unknown_path_and_a_wrong_method_are_problems(http: TestClient) -> None:
    missing, wrong = http.get("/v1/nothing"), http.delete("/v1/jobs")

    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")


def test_a_body_that_is_too_large_is_a_problem(http: TestClient) -> None:
    response = http.post("/v1/jobs", content=b" " * 200_001, headers={"Content-Type": "application/json"})

    assert (response.status_code, response.headers["content-type"]) == (413, PROBLEM)
    assert response.json()["status"] == 413


def test_a_foreign_host_header_is_refused_and_the_setting_named(application: FastAPI) -> None:
    with TestClient(application, base_url="http://evil.example") as client:
        response = client.get("/v1/jobs")

    assert (response.status_code, response.headers["content-type"]) == (400, PROBLEM)
    assert response.json()["code"] == "unknown_host"
    assert "'evil.example'" in response.json()["detail"]
    assert "SERVICE_ALLOWED_HOSTS" in response.json()["detail"]


def test_a_person_gets_a_page_and_a_program_a_problem(http: TestClient) -> None:
    page = http.get("/nothing", headers={"Accept": "text/html"})
    problem = http.get("/nothing")

    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (problem.status_code, problem.headers["content-type"]) == (404, PROBLEM)


def test_a_bug_of_ours_tells_the_client_nothing(
    http: TestClient, job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(job_store, "list", broken)
    response = http.get("/v1/jobs")

    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret detail" not in response.text


def test_a_database_that_is_away_makes_the_service_unready_but_alive(
    http: TestClient, job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the job database does not answer")

    monkeypatch.setattr(job_store, "ping", away)
    monkeypatch.setattr(job_store, "list", away)

    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").status_code == 503
    assert (http.get("/v1/jobs").status_code, http.get("/v1/jobs").json()["code"]) == (503, "store_unavailable")


def test_every_response_has_a_request_id_and_keeps_a_harmless_one(http: TestClient) -> None:
    given = http.get("/livez", headers={"X-Request-ID": "trace-1234"})
    unsafe = http.get("/livez", headers={"X-Request-ID": "<script>"})

    assert given.headers["x-request-id"] == "trace-1234"
    assert len(unsafe.headers["x-request-id"]) == 32
    assert http.get("/v1/nothing").json()["request_id"]


def test_every_response_forbids_inline_and_foreign_scripts(http: TestClient) -> None:
    assert http.get("/").headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe-inline" not in CONTENT_SECURITY_POLICY
    assert http.get("/v1/nothing").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("changes", "field", "known"),
    [
        ({"sauce": 1}, "body.sauce", "kind, recipe, destination"),
        ({"source": {"model": "a/b"}}, "body.source.model", "model_id, revision"),
        ({"recipe": {"name": "srr", "ranc": 4}}, "body.recipe.ranc", "rank"),
        ({"recipe": {"name": "srr", "quantizer": {"num_bitz": 2}}}, "body.recipe.quantizer.mxint.num_bitz", "num_bits"),
    ],
)
def test_an_unknown_field_is_answered_with_those_that_are_known(
    http: TestClient, changes: dict[str, object], field: str, known: str
) -> None:
    body = {"source": {"model_id": "a/b"}, "destination": {"repo_id": "c/d"}} | changes

    answer = http.post("/v1/jobs", json=body)

    messages = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert answer.status_code == 422
    assert known in messages[field]
