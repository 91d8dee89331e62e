"""One trace from a request, over a stored job, to another process."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobDestination, JobSource, JobSubmission
from service.jobs.submit import submit
from service.jobs.tracing import configure_tracing, continued_span, current_traceparent, span
from srr_core.recipe import named_recipe


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def test_job_carries_the_trace_of_its_request_into_another_process(spans: InMemorySpanExporter) -> None:
    store = MemoryJobStore()
    submission = JobSubmission(
        source=JobSource(model_id="a/b"), destination=JobDestination(repo_id="c/d"), recipe=named_recipe("srr")
    )
    with span("request"):
        submit(submission, owner="me", store=store, wake=lambda: None)
    message = store.unsent()[0]

    with continued_span("supervise job", message.traceparent, {"job.id": message.job_id}), span("download"):
        pass

    request, download, supervise = spans.get_finished_spans()
    assert {one.context.trace_id for one in (request, download, supervise)} == {request.context.trace_id}
    assert supervise.parent is not None
    assert download.parent is not None
    assert (supervise.parent.span_id, download.parent.span_id) == (request.context.span_id, supervise.context.span_id)
    assert dict(supervise.attributes or {}) == {"job.id": message.job_id}


def test_a_request_begins_the_trace_of_its_job_or_continues_that_of_its_caller(
    spans: InMemorySpanExporter, application: FastAPI, job_store: MemoryJobStore
) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"source": {"model_id": "a/b"}, "recipe": "srr", "destination": {"repo_id": "c/d"}}
    with TestClient(application, base_url="http://localhost") as http:
        http.post("/v1/jobs?x=hf_abcdEFGH12345678", json=body, headers={"traceparent": caller})

    message = job_store.unsent()[0]
    (request,) = spans.get_finished_spans()
    assert message.traceparent is not None
    assert request.parent is not None
    assert message.traceparent.split("-")[1:3] == [caller.split("-")[1], f"{request.context.span_id:016x}"]
    assert f"{request.parent.span_id:016x}" == caller.split("-")[2]
    assert request.name == "POST /v1/jobs"
    assert "abcdEFGH" not in str(dict(request.attributes or {}))


def test_failure_is_recorded_without_its_secrets(spans: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), span("download"):
        raise RuntimeError("401 for hf_abcdEFGH12345678")

    (failed,) = spans.get_finished_spans()
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert "abcdEFGH" not in str(failed.status.description)
    assert failed.events == ()


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", "00-0-0-01"])
def test_malformed_context_begins_a_new_trace(spans: InMemorySpanExporter, traceparent: str | None) -> None:
    with continued_span("job", traceparent):
        assert current_traceparent() is not None

    assert spans.get_finished_spans()[0].parent is None


def test_nothing_is_set_up_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    assert configure_tracing("srr") is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "no-such-exporter")
    with pytest.raises(LookupError, match="no-such-exporter"):
        configure_tracing("srr")
