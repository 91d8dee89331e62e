"""One trace from a request to the process that carries its job out: W3C trace context, by OpenTelemetry."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.platform.logging import mask

_EXPORTER = "OTEL_TRACES_EXPORTER"
_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = "srr"


def configure_tracing(service_name: str) -> TracerProvider | None:
    """Send the spans of this process where OTEL_TRACES_EXPORTER names an installed exporter. Call once.

    Without that variable nothing is set up and spans cost nothing. `console` comes with the SDK; `otlp` with the
    package opentelemetry-exporter-otlp, configured by its own OTEL_EXPORTER_OTLP_* variables.

    Raises:
        LookupError: no installed package has an exporter of that name.
    """
    name = os.environ.get(_EXPORTER, "none")
    if name in ("", "none"):
        return None
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        raise LookupError(f"{_EXPORTER}={name}, but no installed package has such an exporter; pip install it")
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    provider.add_span_processor(BatchSpanProcessor(next(iter(found)).load()()))
    trace.set_tracer_provider(provider)
    return provider


def current_traceparent() -> str | None:
    """Return the trace context of the current span, to be stored with a job; None outside of any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(
    name: str, attributes: Mapping[str, str | int] | None = None, *, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    """Open a span below the current one. A failure is recorded by its class and masked words, without a trace."""
    tracer = trace.get_tracer(_TRACER)
    with tracer.start_as_current_span(
        name, kind=kind, attributes=dict(attributes or {}), record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            opened.set_status(trace.StatusCode.ERROR, mask(f"{type(error).__name__}: {error}"))
            raise


@contextmanager
def continued_span(
    name: str,
    traceparent: str | None,
    attributes: Mapping[str, str | int] | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """Open a span below one of another process, or the first of a new trace when that is None or malformed."""
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    token = context.attach(_PROPAGATOR.extract(carrier))
    try:
        with span(name, attributes, kind=kind) as opened:
            yield opened
    finally:
        context.detach(token)
