"""A batch that fails is data: on the sweep's row, in a record of its own, in the metric, on the page, in `status`.

Seen to fail: the columns not written, not cleared by a batch that gets through, the record left out, a record that is
refused and takes the lease with it, S3's answers not counted, a killed worker not told, and the label without its
policy.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app import clock
from app.celery import celery
from app.dao import failures_dao, runs_dao
from app.db import db
from app.retention import facts, overdue
from app.retention.steps import StepFailed
from tests.chain_steps import chain, change, do, do_all, open_chains
from tests.concurrency import trigger
from tests.factories import EMAIL_ADDRESS, create_letter, create_notification, create_service, live
from tests.integration.test_metrics import TOKEN, told
from tests.ops import Browser, ops_settings, seem_alive

FAILURE = ("error_class", "sqlstate", "refused_by", "refused_table", "s3_code")
BY_TRIGGER = {"error_class": "DiskFull", "sqlstate": "53100", "refused_by": "in_the_way"}
SECRET = "a private reference"
REFUSE = "RAISE EXCEPTION 'no room for row % of %', NEW.id, NEW.reference USING ERRCODE = '53100';"


@pytest.fixture
def settings_override(proxy: Any) -> dict[str, str]:
    return {
        **ops_settings(),
        "AWS_ENDPOINT_URL_S3": proxy.url,
        "METRICS_TOKEN": TOKEN,
        "METRICS_KEPT_SECONDS": "0",
        "STEP_BUDGET_SECONDS": "10",
    }


@pytest.fixture(autouse=True)
def no_message_stays(app: Flask) -> Iterator[None]:
    yield
    celery.control.purge()


def failure(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in FAILURE if row[name] is not None}


def records(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT * FROM retention.batch_failures ORDER BY id")).mappings())


def fail(connection: Connection, wake: Any, times: int) -> None:
    for _ in range(times):
        change(connection, wake, "due_at = now() - interval '1 second'")
        with trigger(connection, "BEFORE INSERT ON notification_history", REFUSE), pytest.raises(StepFailed):
            do(wake)


def causes(state: str) -> list[tuple[str | None, str | None, str]]:
    found = facts.judgement_now(overdue.measure())
    return [(one.policy, one.cause, one.severity.word) for one in found.verdicts if one.state == state]


def test_what_stops_a_batch_is_told_everywhere_by_name_and_nowhere_by_value(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service, reference=SECRET)
    (wake,) = open_chains(service)
    fail(connection, wake, 3)
    assert failure(chain(connection, wake)) == BY_TRIGGER
    assert [(failure(one), one["policy"], one["step"], one["attempt"]) for one in records(connection)] == [
        (BY_TRIGGER, "email", 0, attempt) for attempt in (1, 2, 3)
    ]
    assert {(one["chain_id"], one["service_id"]) for one in records(connection)} == {(wake.chain, service)}
    cause = "DiskFull 53100 (in_the_way)"
    assert causes("batches-failing") == [("email", cause, "act")]
    assert told(app)["retention_batch_failures_total"] == {("DiskFull", "email"): 3}
    browser = Browser(app)
    browser.log_in()
    page = browser.get("/ops").text
    section = page.split('id="failing"')[1].split("</section>")[0]
    assert f"<code>{cause}</code>" in section
    assert '<td class="number">3×</td>' in section
    status = app.test_cli_runner().invoke(args=["retention", "status"]).stdout
    asked = app.test_cli_runner().invoke(args=["retention", "overdue", "--json"])
    (verdict,) = [one for one in json.loads(asked.stdout)["verdicts"] if one["state"] == "batches-failing"]
    assert verdict["failure"] == dict.fromkeys(FAILURE) | BY_TRIGGER
    assert "disk, memory or connections" in verdict["do"]
    for said in (page, status):
        assert "DiskFull 53100" in said
        assert "in_the_way" in said
    for said in (page, status, asked.stdout, str(records(connection)), str(dict(chain(connection, wake)))):
        assert SECRET not in said
        assert EMAIL_ADDRESS not in said
    assert live(connection) == {email}


def test_a_batch_that_gets_through_clears_the_row_and_the_record_stays(app, connection):
    service = create_service(connection)
    create_notification(connection, service)
    (wake,) = open_chains(service)
    fail(connection, wake, 1)
    change(connection, wake, "due_at = now() - interval '1 second'")
    do_all([wake])
    assert failure(chain(connection, wake)) == {}
    assert causes("batches-failing") == []
    assert len(records(connection)) == 1
    with db.transaction(read_only=True) as own:
        (lately,) = failures_dao.lately(own, clock.now() - timedelta(days=1))
    assert (lately.policy, lately.batches, lately.failure.sqlstate) == ("email", 1, "53100")
    with db.transaction() as own:
        for kind in range(len(runs_dao.PURGE)):
            runs_dao.purge_records(own, kind, clock.now() + timedelta(days=1), 100)
    assert records(connection) == []
    assert told(app)["retention_batch_failures_total"] == {("DiskFull", "email"): 1}, "counters only grow"


def test_a_failure_that_can_not_be_recorded_gives_its_lease_back_all_the_same(app, connection):
    service = create_service(connection)
    create_notification(connection, service)
    (wake,) = open_chains(service)
    connection.execute(text("ALTER TABLE retention.batch_failures RENAME TO elsewhere"))
    try:
        fail(connection, wake, 1)
    finally:
        connection.execute(text("ALTER TABLE retention.elsewhere RENAME TO batch_failures"))
    row = chain(connection, wake)
    assert (row["lease_token"], row["state"], failure(row)) == (None, "waiting", BY_TRIGGER)


def test_s3s_answer_is_a_failure_with_its_code(app, connection, s3, proxy):
    service = create_service(connection)
    letters = [create_letter(connection, s3, service) for _ in range(3)]
    (wake,) = open_chains(service, "letter")
    proxy.slow_buckets.add(app.extensions["settings"].s3_bucket_letters_pdf)
    seem_alive(connection)
    do(wake)
    assert failure(chain(connection, wake)) == {"error_class": "Stopped", "s3_code": "SlowDown"}
    assert [failure(one) for one in records(connection)] == [{"error_class": "Stopped", "s3_code": "SlowDown"}]
    assert causes("batches-failing") == [("letter", "S3 answers SlowDown", "attention")]
    assert told(app)["retention_batch_failures_total"] == {("SlowDown", "letter"): 1}
    assert live(connection) == set(letters)


@pytest.mark.parametrize(("attempts", "said"), [(2, []), (3, [("test-email", "WorkerLost", "act")])])
def test_a_batch_that_kills_its_worker_is_told_at_the_third_attempt(app, connection, attempts, said):
    service = create_service(connection)
    create_notification(connection, service, key_type="test")
    (wake,) = open_chains(service, stage="test")
    change(connection, wake, "attempts = :attempts", attempts=attempts)
    assert causes("batches-failing") == said


def test_a_sweep_that_is_blocked_names_the_constraint(app, connection):
    service = create_service(connection)
    for _ in range(5):
        create_notification(connection, service)
    (wake,) = open_chains(service)
    connection.execute(text("ALTER TABLE notification_history ADD CONSTRAINT nothing CHECK (false) NOT VALID"))
    try:
        do(wake)
    finally:
        connection.execute(text("ALTER TABLE notification_history DROP CONSTRAINT nothing"))
    cause = "CheckViolation 23514 (nothing of notification_history)"
    assert causes("sweep-blocked") == [("email", cause, "act")]
    assert told(app)["retention_batch_failures_total"] == {("CheckViolation", "email"): 1}
