"""The trace of a request goes on in the worker."""

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.platform.tracing import span
from tests.worker.supervised.conftest import Bench


def test_the_span_of_the_supervisor_is_below_that_of_the_request(bench: Bench, spans: InMemorySpanExporter) -> None:
    with span("POST /v1/jobs"):
        job = bench.submit()

    bench.supervisor("succeed").run(job.id, 1)

    request, supervise = spans.get_finished_spans()
    assert (supervise.name, supervise.context.trace_id) == ("supervise job", request.context.trace_id)
    assert supervise.parent is not None
    assert supervise.parent.span_id == request.context.span_id
