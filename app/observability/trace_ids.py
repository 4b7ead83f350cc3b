"""Spans under ids of our own making. Only imported where traces are sent; see `app.observability.tracing`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

if TYPE_CHECKING:
    from app.observability.tracing import Attributes, Trace

NANOSECONDS = 1_000_000_000


class OwnIds(RandomIdGenerator):
    """Random ids, but for the root span of a chain, whose ids its steps know already."""

    def __init__(self) -> None:
        self.root: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.root is None else self.root[0]

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.root is None else self.root[1]


def provider(url: str, service_name: str, ids: OwnIds) -> TracerProvider:
    """A provider that sends to this URL in batches, from a thread. OTEL_SERVICE_NAME and the like win."""
    resource = Resource({"service.name": service_name}).merge(OTELResourceDetector().detect())
    made = TracerProvider(resource=resource, id_generator=ids)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return made


@contextmanager
def span_of(of: TracerProvider, name: str, trace: "Trace", attributes: "Attributes") -> Iterator[Span]:
    """A span under the chain's root."""
    root = SpanContext(trace.trace_id, trace.root_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    context = set_span_in_context(NonRecordingSpan(root), Context())
    with _span(of, name, {**trace.attributes, **attributes}, context) as span:
        yield span


@contextmanager
def child(of: TracerProvider, name: str) -> Iterator[Span]:
    """A span under the one that is under way in this thread."""
    with _span(of, name, {}, None) as span:
        yield span


def tell_root(of: TracerProvider, ids: OwnIds, trace: "Trace", ended_at: datetime) -> None:
    """The root span itself, from the chain's beginning to its end."""
    ids.root = (trace.trace_id, trace.root_id)
    try:
        span = of.get_tracer(__name__).start_span(
            "chain", Context(), attributes=dict(trace.attributes), start_time=_nanoseconds(trace.began_at)
        )
    finally:
        ids.root = None
    span.end(_nanoseconds(ended_at))


@contextmanager
def _span(of: TracerProvider, name: str, attributes: "Attributes", context: Context | None) -> Iterator[Span]:
    with of.get_tracer(__name__).start_as_current_span(
        name, context, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))  # not its text: it may quote a row
            raise


def _nanoseconds(instant: datetime) -> int:
    return int(instant.timestamp() * NANOSECONDS)
