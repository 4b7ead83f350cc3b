"""Traces, where OTEL_EXPORTER_OTLP_ENDPOINT says where to: one per chain, a span per step, on whichever worker it ran.

A trace's id is made from the chain's own identity, so that workers need not tell each other. Ids, codes, counts and
times only. Where nothing is configured, nothing of OpenTelemetry is imported here; the client of a Redis broker does.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from app.config import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from app.observability.trace_ids import OwnIds

SERVICE_NAME = "retention"
PATH = "/v1/traces"

Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Trace:
    """What makes a chain's trace: its identity, the same in every process, and what all its spans say of it."""

    identity: str
    began_at: datetime
    attributes: Attributes

    @property
    def trace_id(self) -> int:
        return int.from_bytes(self._digest[:16])

    @property
    def root_id(self) -> int:
        """Of the span of the whole chain, which is told when it has ended."""
        return int.from_bytes(self._digest[16:24])

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(self.identity.encode()).digest()


@dataclass
class _Tracing:
    """A process's own provider, with a thread that sends: never shared with a fork."""

    provider: "TracerProvider"
    ids: "OwnIds"
    pid: int


_endpoint: str | None = None
_tracing: _Tracing | None = None


def set_up(settings: Settings) -> None:
    """Remember where traces go. The process begins to send with its first span."""
    global _endpoint
    _endpoint = settings.otel_exporter_otlp_endpoint


def flush() -> None:
    """Send what is waiting and stop, before the process ends."""
    global _tracing
    if _tracing is not None and _tracing.pid == os.getpid():
        _tracing.provider.shutdown()
    _tracing = None


@contextmanager
def step(trace: Trace, attributes: Attributes) -> Iterator["Span | None"]:
    """The span of one step of a chain; None where nothing is traced. An error leaves its kind, not its text."""
    if _endpoint is None:
        yield None
        return
    from app.observability import trace_ids

    with trace_ids.span_of(_this_process().provider, "step", trace, attributes) as span:
        yield span


@contextmanager
def part(name: str) -> Iterator[None]:
    """A part of the step that is under way, such as its files."""
    if _endpoint is None:
        yield
        return
    from app.observability import trace_ids

    with trace_ids.child(_this_process().provider, name):
        yield


def chain_ended(trace: Trace, ended_at: datetime) -> None:
    """Tell the span of the whole chain, under which its steps are."""
    if _endpoint is None:
        return
    from app.observability import trace_ids

    this = _this_process()
    trace_ids.tell_root(this.provider, this.ids, trace, ended_at)


def _this_process() -> _Tracing:
    global _tracing
    if _tracing is None or _tracing.pid != os.getpid():
        from app.observability.trace_ids import OwnIds, provider

        ids = OwnIds()
        _tracing = _Tracing(provider(f"{(_endpoint or '').rstrip('/')}{PATH}", SERVICE_NAME, ids), ids, os.getpid())
    return _tracing
