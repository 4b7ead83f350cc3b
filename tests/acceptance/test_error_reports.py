"""Errors of real processes reach Sentry, and nothing that they were about goes with them.

Seen to fail, the task and the request: events sent as they are, and an error's text kept. What each list of the
scrubbing is for, the unit tests show.
"""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
from sqlalchemy import text

from dev import product
from dev.processes import Child, answers, free_port
from tests.acceptance.workers import Workers, eventually
from tests.chain_steps import open_chains
from tests.factories import create_notification, create_service
from tests.fakes.collector import Collected, collector
from tests.session_rows import PASSWORD, create_user, password_hash

NAME, ADDRESS, PHONE, CONTENT = "Philippa Secretly", "philippa@secret.example.test", "+447700900123", "a hidden wish"
PLANTED = (NAME, ADDRESS, PHONE, CONTENT, PASSWORD)
# Quotes the row, as PostgreSQL does when a constraint is broken. What stops a step has our own words; noting it on the
# chain's row is refused as well, in PostgreSQL's.
REFUSE = f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'Failing row contains (%)', OLD USING ERRCODE = '53100'; END
$$;
CREATE TRIGGER refuse BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE FUNCTION refuse_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'Failing row contains ({CONTENT}, {PHONE})' USING ERRCODE = '23514'; END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON retention.chains FOR EACH ROW
    WHEN (NEW.last_error IS NOT NULL) EXECUTE FUNCTION refuse_note();
CREATE FUNCTION refuse_visit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'Failing row contains (%)', OLD USING ERRCODE = '23514'; END
$$;
CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse_visit();
"""
REFUSE_NO_MORE = """
DROP TRIGGER refuse ON notifications;
DROP FUNCTION refuse;
DROP TRIGGER refuse ON retention.chains;
DROP FUNCTION refuse_note;
DROP TRIGGER refuse ON users;
DROP FUNCTION refuse_visit;
"""


@pytest.fixture
def sentry() -> Iterator[Collected]:
    with collector() as collected:
        yield collected


@pytest.fixture
def refusing(app: Any, connection: Any) -> Iterator[None]:
    connection.exec_driver_sql(REFUSE.replace("%", "%%"))
    yield
    connection.exec_driver_sql(REFUSE_NO_MORE)


def dsn(sentry: Collected) -> dict[str, str]:
    return {"SENTRY_DSN": f"http://public@127.0.0.1:{sentry.port}/7", "SENTRY_ENVIRONMENT": "a-test"}


def events(sentry: Collected) -> list[dict[str, Any]]:
    """The events of all envelopes."""
    lines = [json.loads(line) for line in sentry.bodies.splitlines() if line.startswith(b"{")]
    return [line for line in lines if "exception" in line]


def assert_nothing_private(sentry: Collected) -> None:
    assert [planted for planted in PLANTED if planted.encode() in sentry.bodies] == []


def test_an_error_of_a_task_is_reported_without_what_it_was_about(
    app, connection, environment, tmp_path, sentry, refusing
):
    service = create_service(connection)
    create_notification(connection, service, "sms", to=PHONE, normalised_to=ADDRESS, _personalisation=CONTENT)
    (wake,) = open_chains(service, "sms")
    workers = Workers({**environment, **dsn(sentry)}, tmp_path)
    try:
        workers.start(pool=1)
        workers.send(_task(), str(wake.service_id), "sms", wake.cutoff.isoformat(), chain=wake.chain, step=wake.step)
        eventually(lambda: events(sentry))
    finally:
        workers.stop()
    event = events(sentry)[0]
    kinds = [one["type"] for one in event["exception"]["values"]]
    assert {"StepFailed", "CheckViolation"} <= set(kinds)
    assert (event["environment"], event["transaction"]) == ("a-test", "delete-notifications-for-service-and-type")
    assert event["tags"]["celery_task_id"]
    frames = [frame for one in event["exception"]["values"] for frame in one["stacktrace"]["frames"]]
    assert "run_step" in {frame["function"] for frame in frames}
    assert [frame for frame in frames if "vars" in frame] == []
    queries = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert any("FROM retention.holds" in query for query in queries)
    assert_nothing_private(sentry)
    connection.execute(text("TRUNCATE retention.chains CASCADE"))


def _task() -> Any:
    from app.celery import nightly_tasks

    return nightly_tasks.delete_notifications_for_service_and_type


def test_an_error_of_a_request_is_reported_without_what_was_sent(
    app, connection, environment, tmp_path, sentry, refusing
):
    create_user(connection, name=NAME, email_address=ADDRESS, password_hash=password_hash())
    port = free_port()
    web = Child(
        "web", product.web(port), log=tmp_path / "web.log", env={**environment, **dsn(sentry)}, cwd=product.ROOT
    )
    try:
        web.wait_until(lambda: answers(port), timeout_seconds=60)
        body = json.dumps({"email_address": ADDRESS, "password": PASSWORD}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/login?email={ADDRESS}",
            body,
            {"Content-Type": "application/json", "Authorization": f"Bearer {CONTENT.replace(' ', '')}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(HTTPError) as refused:
            opener.open(request, timeout=30)
        refused.value.close()
        eventually(lambda: events(sentry))
    finally:
        web.stop()
    event = events(sentry)[0]
    assert (refused.value.code, event["transaction"]) == (500, "sessions.login")
    assert "CheckViolation" in [one["type"] for one in event["exception"]["values"]]
    assert "request" not in event
    assert_nothing_private(sentry)
    assert CONTENT.replace(" ", "").encode() not in sentry.bodies
