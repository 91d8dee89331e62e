"""One trace from a request, over a stored job, to another process."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.jobs.memory_store import MemoryJobStore
from service.platform.tracing import configure_tracing, continued_span, current_traceparent, span
from tests.service.submitting import submitted


def test_job_carries_the_trace_of_its_request_into_another_process(spans: InMemorySpanExporter) -> None:
    store = MemoryJobStore()
    with span("request"):
        submitted(store)
    message = store.unsent()[0]

    with continued_span("supervise job", message.traceparent, {"job.id": message.job_id}), span("download"):
        pass

    request, download, supervise = spans.get_finished_spans()
    assert {one.context.trace_id for one in (request, download, supervise)} == {request.context.trace_id}
    assert supervise.parent is not None
    assert download.parent is not None
    assert (supervise.parent.span_id, download.parent.span_id) == (request.context.span_id, supervise.context.span_id)
    assert dict(supervise.attributes or {}) == {"job.id": message.job_id}


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
