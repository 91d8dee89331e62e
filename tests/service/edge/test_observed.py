"""What is kept of a request, in the log and in a trace, and how a failure of ours is found again."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.edge.middleware import CONTENT_SECURITY_POLICY
from service.jobs.memory_store import MemoryJobStore
from service.keys.access import issue_key
from service.keys.store import KeyStore
from service.platform.tracing import continued_span
from service.settings import ServiceSettings
from tests.service import finished
from tests.service.serving import served

BODY = {"source": {"model_id": "org/model"}, "destination": {"repo_id": "org/out"}, "hub_token": "hf_abcdEFGH12345678"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
ID = {"X-Request-ID": "request-0001"}


def lines(stream: io.StringIO, event: str) -> list[dict[str, Any]]:
    """Return the lines of one event."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


@pytest.fixture
def broken(job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job store with a bug."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(job_store, "list", fail)


@pytest.fixture
def address(application: FastAPI, stream: io.StringIO) -> Iterator[str]:
    """The application behind the real server, which logs what reaches it."""
    with served(application) as url:
        yield url


def wait_for_line(stream: io.StringIO, text: str) -> None:
    """Wait until something was logged: a server answers before it has logged that it did."""
    deadline = time.monotonic() + 10
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.01)


@pytest.mark.usefixtures("broken")
def test_a_failure_of_ours_is_logged_once_under_the_id_that_was_sent_back(address: str, stream: io.StringIO) -> None:
    with httpx2.Client(base_url=address) as client:
        answer = client.get("/v1/jobs", headers=ID)
    wait_for_line(stream, "request_finished")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "request-0001"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    (failed,) = lines(stream, "request_failed")
    assert (failed["request_id"], failed["route"]) == ("request-0001", "/v1/jobs")
    assert stream.getvalue().count("Traceback (most recent call last)") == 1
    assert "secret detail" not in answer.text


@pytest.mark.usefixtures("broken")
def test_a_person_sees_a_page_when_we_fail(http: TestClient) -> None:
    answer = http.get("/jobs", headers={"Accept": "text/html"} | ID)

    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_a_response_that_fails_after_it_began_is_cut_off(
    application: FastAPI, address: str, stream: io.StringIO
) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("in the middle")

    application.mount("/half", half)

    with httpx2.Client(base_url=address) as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get("/half/")

    wait_for_line(stream, "request_failed")
    assert stream.getvalue().count("Traceback (most recent call last)") == 1


def test_every_request_is_one_line_without_ids_of_anybody(
    http: TestClient, job_store: MemoryJobStore, stream: io.StringIO
) -> None:
    job = finished.queued(job_store)
    stream.truncate(stream.seek(0))

    http.get(f"/v1/jobs/{job.id}", params={"token": "opaque"}, headers=ID)
    http.get("/nothing-here")

    found, missing = lines(stream, "request_finished")
    assert found.pop("duration_seconds") >= 0
    assert {name: found[name] for name in ("method", "route", "status", "request_id", "level")} == {
        "method": "GET",
        "route": "/v1/jobs/{job_id}",
        "status": 200,
        "request_id": "request-0001",
        "level": "info",
    }
    assert (missing["route"], missing["status"]) == (None, 404)
    assert job.id not in stream.getvalue()
    assert "opaque" not in stream.getvalue()
    assert "nothing-here" not in stream.getvalue()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/static/style.css"])
def test_what_machines_ask_for_all_day_is_not_logged(http: TestClient, stream: io.StringIO, path: str) -> None:
    assert http.get(path).status_code == 200

    assert lines(stream, "request_finished") == []


@pytest.mark.usefixtures("org_model")
def test_a_submission_joins_the_ids_of_request_and_job(http: TestClient, stream: io.StringIO) -> None:
    first = http.post("/v1/jobs", json=BODY, headers=ID).json()["id"]
    http.post("/v1/jobs", json=BODY)

    submitted, repeated = lines(stream, "job_submitted")
    assert (submitted["request_id"], submitted["job_id"], submitted["is_new"]) == ("request-0001", first, True)
    assert (repeated["job_id"], repeated["is_new"]) == (first, False)


class TestWithKeys:
    """A service that wants keys."""

    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return ServiceSettings(sign_in="keys")

    def test_the_line_names_the_key_and_never_its_text(
        self, http: TestClient, keys: KeyStore, stream: io.StringIO
    ) -> None:
        issued = issue_key(keys, name="ci", owner="ann", scopes=("jobs:read",))

        http.get("/v1/jobs", headers={"Authorization": f"Bearer {issued.text}"})
        http.get("/v1/jobs")

        known, unknown = lines(stream, "request_finished")
        assert (known["status"], known["key_id"]) == (200, issued.key.id)
        assert (unknown["status"], "key_id" in unknown) == (401, False)
        assert issued.text not in stream.getvalue()


@pytest.mark.usefixtures("org_model")
def test_a_trace_goes_from_the_caller_through_the_request_and_the_job_to_the_worker(
    http: TestClient, job_store: MemoryJobStore, spans: InMemorySpanExporter
) -> None:
    job_id = http.post("/v1/jobs", params={"token": "opaque"}, json=BODY, headers=TRACEPARENT | ID).json()["id"]
    (message,) = job_store.unsent()
    with continued_span("supervise job", message.traceparent, {"job.id": message.job_id}):
        pass

    request, supervise = spans.get_finished_spans()
    assert request.parent is not None
    assert supervise.parent is not None
    assert f"{request.context.trace_id:032x}" == f"{supervise.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert supervise.parent.span_id == request.context.span_id
    assert job_store.get(job_id).traceparent == message.traceparent
    assert (request.name, request.kind) == ("POST /v1/jobs", SpanKind.SERVER)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/jobs",
        "http.response.status_code": 202,
        "request.id": "request-0001",
    }


def test_a_request_that_names_no_trace_begins_one(http: TestClient, spans: InMemorySpanExporter) -> None:
    http.get("/v1/recipes", headers={"traceparent": "nonsense"})
    http.get("/livez")

    (only,) = spans.get_finished_spans()
    assert (only.name, only.parent) == ("GET /v1/recipes", None)


@pytest.mark.usefixtures("broken")
def test_a_failure_of_ours_marks_its_span_and_tells_no_words(http: TestClient, spans: InMemorySpanExporter) -> None:
    http.get("/v1/jobs")

    (failed,) = spans.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.status.description, failed.events) == (None, ())
