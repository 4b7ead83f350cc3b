"""A chain's steps are one trace, whichever process does them.

Seen to fail: a random trace id, the text of an error as the span's status, an import that brings OpenTelemetry along.
"""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.celery import nightly_tasks
from tests.acceptance.workers import ROWS_PER_STEP, Workers, eventually, have_ended
from tests.chain_steps import open_chains
from tests.factories import EMAIL_ADDRESS, create_letter, create_notification, create_service
from tests.fakes.collector import Collected, collector


def spans(collected: Collected) -> list[Any]:
    found = []
    for path, body in list(collected.posts):
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.fixture
def collected(app: Any) -> Any:
    with collector() as server:
        yield server


def test_the_steps_of_a_chain_are_one_trace_under_its_root(app, connection, s3, environment, tmp_path, collected):
    service = create_service(connection)
    for _ in range(ROWS_PER_STEP + 1):
        create_notification(connection, service, "email")
    letter = create_letter(connection, s3, service)
    workers = Workers({**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collected.port}"}, tmp_path)
    try:
        pool = [workers.start(f"worker-{number}", pool=1) for number in range(2)]
        for notification_type in ("email", "letter"):
            (wake,) = open_chains(service, notification_type)
            workers.send(
                nightly_tasks.delete_notifications_for_service_and_type,
                str(service),
                notification_type,
                wake.cutoff.isoformat(),
                chain=wake.chain,
                step=wake.step,
            )
        eventually(lambda: have_ended(connection))
        for worker in pool:  # before the batch's own time: what waits is sent when a process ends
            worker.ask_to_stop()
        for worker in pool:
            worker.finish(60)
    finally:
        workers.stop()
    told = spans(collected)
    roots = {span.span_id: span for span in told if span.name == "chain"}
    steps = [span for span in told if span.name == "step"]
    of_emails = [span for span in steps if attributes(span)["notification.type"] == "email"]
    moved = [span for span in of_emails if attributes(span)["chain.stage"] == "real"]
    assert sorted(attributes(span)["step.moved"] for span in moved)[-2:] == [1, ROWS_PER_STEP]
    assert len({span.trace_id for span in moved}) == 1
    assert {span.parent_span_id for span in steps} <= roots.keys()
    for span in steps:
        root = roots[span.parent_span_id]
        assert root.trace_id == span.trace_id
        assert attributes(root)["chain.id"] == attributes(span)["chain.id"]
        assert root.start_time_unix_nano <= span.start_time_unix_nano < root.end_time_unix_nano
    parts = {span.name for span in told} - {"chain", "step"}
    assert parts == {"find files", "delete files", "prepare"}
    sent = b"".join(body for _, body in collected.posts)
    assert EMAIL_ADDRESS.encode() not in sent
    assert str(letter).encode() not in sent


def test_an_error_leaves_its_kind_and_not_its_text(app, collected, settings):
    from app.observability import tracing
    from app.observability.tracing import Trace

    traced = settings.model_copy(update={"otel_exporter_otlp_endpoint": f"http://127.0.0.1:{collected.port}/"})
    tracing.set_up(traced)
    try:
        with (
            pytest.raises(ValueError, match="secret"),
            tracing.step(Trace("1", settings_time(), {}), {}),
        ):
            raise ValueError("a secret")
        tracing.flush()
    finally:
        tracing.set_up(settings)
    (span,) = spans(collected)
    assert (span.status.code, span.status.message, len(span.events)) == (2, "ValueError", 0)


def settings_time() -> Any:
    from app import clock

    return clock.now()


def test_without_a_place_to_send_to_nothing_is_imported_or_made(app, environment):
    import subprocess
    import sys

    code = (
        "import sys; from app import create_app; from app.observability import tracing\n"
        "create_app()\n"
        "with tracing.step(None, {}) as span, tracing.part('x'): assert span is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')], 'imported'\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
