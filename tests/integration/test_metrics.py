"""`/metrics`: the same from every process, told from the database and the broker.

Seen to fail: the fold's lock left out, a fold that replaces what was folded before, the purge of what is not counted,
nothing kept, any token taken, a part that fails and does not say so, one that fails all, any code as a label, and
nights with nothing to do left out.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Uuid, bindparam, insert, text

from app import clock, create_app
from app.accounts import session_cleanup
from app.celery import account_tasks, celery, nightly_tasks
from app.config import Settings, load
from app.dao import platform_dao, runs_dao, totals_dao
from app.db import db
from app.models import Audit
from app.models.types import NOTIFICATION_TYPES
from app.ops import collector
from app.ops.metric_names import ALL
from app.retention import heartbeat, nightly, operations
from tests.chain_steps import do_all, open_chains
from tests.factories import create_history, create_letter, create_notification, create_service, days_ago
from tests.integration.accounts.owned import create_user, mark_by_sql
from tests.session_rows import create_session

TOKEN = "the-token-of-prometheus"
STEPS = 0
"""Which of `runs_dao.PURGE` purges the records of steps."""


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"METRICS_TOKEN": TOKEN, "METRICS_KEPT_SECONDS": "0", "S3_BUCKET_INVALID_PDF": "there-is-no-such-bucket"}


@pytest.fixture(autouse=True)
def no_message_stays(app: Any) -> Iterator[None]:
    yield
    celery.control.purge()


def page(app: Any, token: str | None = TOKEN) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return app.test_client().get("/metrics", headers=headers)


def told(app: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name, then by their labels' values, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(page(app).text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("token", [None, "", "the-token-of-prometheuS", "ünknown"])
def test_without_the_right_token_nothing_is_told(app, token):
    answer = page(app, token)
    assert answer.status_code == 401
    assert "retention_" not in answer.text


def test_without_a_token_in_the_settings_there_is_no_such_page(app, settings):
    closed = create_app(Settings.model_validate({**settings.model_dump(), "metrics_token": None}))
    assert page(closed).status_code == 404
    assert page(closed, "").status_code == 404


def test_everything_is_told_in_numbers_that_the_data_bears_out(app, connection, s3):
    now = datetime.now(UTC)
    service, held, other = (create_service(connection, email=3) for _ in range(3))
    for _ in range(3):
        create_notification(connection, service, "email")
    create_notification(connection, service, "email", key_type="test")
    create_notification(connection, held, "sms")
    create_notification(connection, None, "sms")
    create_letter(connection, s3, service)
    create_letter(connection, s3, service, reference="A.B", file=False)
    create_letter(connection, s3, service, file=False, notification_status="validation-failed")
    create_letter(connection, s3, service, file=False, notification_status="created")
    do_all(open_chains(service, "email"))
    do_all(open_chains(service, "letter"))
    operations.hold(held, "an inquiry", "somebody")
    operations.hold_user(create_user(connection), "an inquiry", "somebody")
    create_notification(connection, other, "email", now - timedelta(days=6))
    open_chains(other, "email")
    blocked = create_user(connection)
    mark_by_sql(connection, blocked)
    for _ in range(2):
        create_session(connection, expires_at=days_ago(1))
    session_cleanup.step(clock.now(), 1)
    nightly_tasks.dispatch_retention()
    account_tasks.relay_user_deletions()

    seen = told(app)
    assert seen["retention_overdue_notifications"] == {("email",): 1, ("sms",): 0, ("letter",): 2}
    assert 2 * 86_400 < seen["retention_overdue_age_seconds"][("email",)] < 4 * 86_400
    waiting = {labels: rows for labels, rows in seen["retention_waiting_notifications"].items() if rows}
    assert waiting == {("on_hold", "sms"): 1, ("no_service", "sms"): 1, ("not_final", "letter"): 1}
    assert seen["retention_held_back_rows"] == {("AmbiguousReference",): 1, ("NoSuchBucket",): 1}
    assert 0 < seen["retention_held_back_oldest_age_seconds"][()] < 600
    assert seen["retention_rows_moved_total"] == {("email",): 3, ("sms",): 0, ("letter",): 1}
    assert seen["retention_test_rows_deleted_total"] == {("email",): 1, ("sms",): 0, ("letter",): 0}
    assert seen["retention_files_deleted_total"] == {(): 1}
    assert seen["retention_files_failed_total"] == {("AmbiguousReference",): 1, ("NoSuchBucket",): 1}
    assert seen["retention_chains"] == {("waiting",): 1, ("running",): 0, ("resting",): 0}
    depths = seen["retention_queue_depth"]
    assert depths == {("retention-nightly",): 0, ("retention-periodic",): 0, ("retention-accounts",): 1}
    assert seen["retention_workers_alive"] == {(): 0}
    for name in ("chains", "accounts"):
        assert abs(seen["retention_relay_last_seen_timestamp_seconds"][(name,)] - now.timestamp()) < 600
    succeeded = seen["retention_last_successful_step_timestamp_seconds"]
    assert [abs(succeeded[(of_type,)] - now.timestamp()) < 600 for of_type in ("email", "sms", "letter")] == [
        True,
        False,
        True,
    ]
    assert abs(seen["retention_last_run_timestamp_seconds"][()] - now.timestamp()) < 600
    assert seen["retention_account_deletions"][("requested",)] == 1
    assert 0 < seen["retention_account_deletion_oldest_age_seconds"][()] < 600
    assert seen["retention_sessions_deleted_total"] == {(): 1}
    assert seen["retention_dead_sessions"] == {(): 1}
    assert (seen["retention_paused"], seen["retention_services_on_hold"]) == ({(): 0}, {(): 1})
    assert seen["retention_users_on_hold"] == {(): 1}
    assert seen["retention_severity"] == {(): 3}
    assert seen["retention_verdicts"][("act", "no-worker")] == 1
    assert seen["retention_verdicts"][("attention", "held-back")] == 2
    assert set(seen["retention_scrape_errors"].values()) == {0}
    steps = connection.execute(text("SELECT count(*) FROM retention.steps WHERE notification_type = 'email'")).scalar()
    assert seen["retention_step_duration_seconds_count"][("email",)] == steps
    assert seen["retention_step_rows_bucket"][("+Inf", "email")] == steps
    assert seen["retention_step_rows_sum"][("email",)] == 4
    assert seen["retention_step_rows_bucket"][("10.0", "email")] == steps
    assert seen["retention_step_rows_bucket"][("1.0", "email")] == steps - 1, "all but the one that chose three rows"


def counters(app: Any) -> dict[str, dict[tuple[str, ...], float]]:
    return {name: samples for name, samples in told(app).items() if name.endswith(("_total", "_count", "_bucket"))}


def test_counters_stay_when_they_are_folded_and_when_the_records_are_purged(app, connection):
    service = create_service(connection)
    for _ in range(3):
        create_notification(connection, service, "email")
        do_all(open_chains(service, "email"))
    create_session(connection, expires_at=days_ago(1))
    session_cleanup.step(clock.now(), 10)
    before = counters(app)
    assert before["retention_rows_moved_total"][("email",)] == 3
    assert before["retention_sessions_deleted_total"][()] == 1
    with db.transaction() as own:
        runs_dao.purge_records(own, STEPS, clock.now() + timedelta(days=1), 100)
    assert connection.execute(text("SELECT count(*) FROM retention.steps")).scalar() > 0, "not counted, not purged"
    heartbeat.fold()
    heartbeat.fold()
    assert counters(app) == before
    with db.transaction() as own:
        runs_dao.purge_records(own, STEPS, clock.now() + timedelta(days=1), 100)
    assert connection.execute(text("SELECT count(*) FROM retention.steps")).scalar() == 0
    assert counters(app) == before
    create_notification(connection, service, "email")
    do_all(open_chains(service, "email"))
    heartbeat.fold()
    assert counters(app)["retention_rows_moved_total"][("email",)] == 4


def test_two_that_fold_at_once_count_nothing_twice(app, connection):
    service = create_service(connection)
    create_notification(connection, service, "email")
    do_all(open_chains(service, "email"))
    with db.transaction() as first:
        totals_dao.fold(first, 100)
        heartbeat.fold()
    assert told(app)["retention_rows_moved_total"][("email",)] == 1


def test_a_fold_in_parts_is_as_good(app, connection):
    service = create_service(connection)
    for _ in range(3):
        create_notification(connection, service, "email")
        do_all(open_chains(service, "email"))
    before = counters(app)
    for left in (2, 1, 0):
        with db.transaction() as own:
            totals_dao.fold(own, 1)
        assert counters(app) == before
        assert connection.execute(text("SELECT count(*) FROM retention.steps WHERE NOT counted")).scalar() == left


def test_a_night_with_nothing_to_do_for_a_type_did_its_work(app):
    night = nightly.start_run()
    for notification_type in NOTIFICATION_TYPES:
        nightly.fan_out(notification_type, night)
    succeeded = told(app)["retention_last_successful_step_timestamp_seconds"]
    assert [abs(at - datetime.now(UTC).timestamp()) < 600 for at in succeeded.values()] == [True] * 3


def test_codes_that_no_list_knows_are_other(app, connection):
    connection.execute(
        text(
            "INSERT INTO retention.totals VALUES ('files_failed', 'Strange', 0, 2), ('files_failed', 'Odd', 0, 3), "
            "('files_failed', 'SlowDown', 0, 1)"
        )
    )
    assert told(app)["retention_files_failed_total"] == {("other",): 5, ("SlowDown",): 1}


@pytest.mark.parametrize(
    ("breaking", "fixing", "part", "missing"),
    [
        (
            "ALTER TABLE retention.totals RENAME TO elsewhere",
            "ALTER TABLE retention.elsewhere RENAME TO totals",
            "totals",
            "retention_rows_moved_total",
        ),
        (
            "ALTER TABLE user_deletions RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO user_deletions",
            "accounts",
            "retention_account_deletions",
        ),
    ],
)
def test_a_part_that_fails_says_so_and_the_others_are_told(app, connection, breaking, fixing, part, missing):
    whole = told(app)
    connection.execute(text(breaking))
    try:
        seen = told(app)
    finally:
        connection.execute(text(fixing))
    failed = [labels for labels, value in seen["retention_scrape_errors"].items() if value]
    assert failed == [(part,)]
    assert missing in whole.keys() - seen.keys()
    assert "retention_overdue_notifications" in seen


def test_a_locked_table_is_not_waited_for(app, connection, administrator_engine):
    with administrator_engine.begin() as holding:
        holding.execute(text("LOCK TABLE user_deletions IN ACCESS EXCLUSIVE MODE"))
        began = datetime.now(UTC)
        errors = told(app)["retention_scrape_errors"]
        took = datetime.now(UTC) - began
    assert [labels for labels, value in errors.items() if value] == [("accounts",)]
    assert took < timedelta(seconds=collector.SECONDS_OF_ALL)


def test_a_broker_that_is_away_leaves_the_rest(app, settings):
    away = create_app(settings.model_copy(update={"celery_broker_url": "redis://127.0.0.1:9/0"}))
    seen = told(away)
    away.extensions["db.engine"].dispose()
    assert [labels for labels, value in seen["retention_scrape_errors"].items() if value] == [("queues",)]
    assert "retention_queue_depth" not in seen


def test_what_was_measured_is_kept_for_a_while(app, connection, settings):
    keeping = create_app(settings.model_copy(update={"metrics_kept_seconds": 60.0}))
    assert told(keeping)["retention_paused"] == {(): 0}
    operations.pause("a migration", "somebody")
    assert told(keeping)["retention_paused"] == {(): 0}
    keeping.extensions["db.engine"].dispose()
    assert told(app)["retention_paused"] == {(): 1}


def test_without_accounts_and_sessions_nothing_is_said_of_them(environment, app):
    neither = load({**environment, "ACCOUNTS_ENABLED": "false", "SESSIONS_ENABLED": "false", "METRICS_TOKEN": TOKEN})
    made = create_app(neither)
    seen = told(made)
    made.extensions["db.engine"].dispose()
    assert [name for name in seen if "session" in name or "account" in name] == []
    assert set(seen["retention_relay_last_seen_timestamp_seconds"]) == {("chains",)}


def audited(connection: Any, finished_at: datetime | None, *found: int, **columns: Any) -> None:
    """An audit with so many files without a row, rows without a file and unrecognised files."""
    now = datetime.now(UTC)
    counts = dict(zip(("files_without_row", "rows_without_file", "unrecognised_files"), found, strict=True))
    values = {"started_at": now, "advanced_at": now, "started_by": "somebody", "deletes": False}
    connection.execute(insert(Audit).values(finished_at=finished_at, **values, **counts, **columns))


def test_the_last_whole_audit_that_ended_is_told(app, connection):
    assert "retention_audit_orphaned_files" not in told(app)
    audited(connection, datetime(2026, 1, 1, tzinfo=UTC), 9, 9, 9)
    audited(connection, datetime(2026, 1, 2, tzinfo=UTC), 3, 2, 1)
    audited(connection, datetime(2026, 1, 3, tzinfo=UTC), 7, 7, 7, only_bucket="one-of-them")
    audited(connection, datetime(2026, 1, 3, tzinfo=UTC), 7, 7, 7, since=date(2026, 1, 1))
    audited(connection, datetime(2026, 1, 3, tzinfo=UTC), 7, 7, 7, abandoned=True)
    audited(connection, None, 7, 7, 7)
    seen = told(app)
    assert seen["retention_audit_orphaned_files"] == {(): 3}
    assert seen["retention_audit_missing_files"] == {(): 2}
    assert seen["retention_audit_unrecognised_files"] == {(): 1}
    assert seen["retention_audit_last_timestamp_seconds"] == {(): datetime(2026, 1, 2, tzinfo=UTC).timestamp()}


ARCHIVED = text(
    """
    INSERT INTO retention.archives (table_name, window_from, window_before, part, state, bucket, key, bytes, rows,
                                    services, started_at, verified_at, finished_at)
    VALUES ('notification_history', '2020-05-17', '2020-05-18', 1, 'done', 'some', 'key', 4000, 50, ARRAY[:service],
            now(), now(), now())
    """
)


def test_every_name_on_the_page_is_defined_and_none_has_an_id_in_its_labels(app, settings, connection):
    audited(connection, datetime.now(UTC), 0, 0, 0)
    service = create_service(connection)
    create_notification(connection, service, "email")
    do_all(open_chains(service, "email"))
    create_history(connection, service_id=service)
    connection.exec_driver_sql("ANALYZE notification_history")
    connection.execute(ARCHIVED.bindparams(bindparam("service", type_=Uuid)), {"service": service})
    platform_dao._known.clear()  # how many rows there are is asked again
    archiving = create_app(settings.model_copy(update={"s3_bucket_archive": "some"}))
    shown = page(archiving).text
    archiving.extensions["db.engine"].dispose()
    heads = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE retention_")}
    assert heads == {definition.name for definition in ALL}
    assert str(service) not in shown
    assert "retention_archive_" not in page(app).text


MANY_STEPS = text(
    """
    INSERT INTO retention.steps (night, notification_type, service_id, cutoff, stage, slice, step, started_at, seconds,
                                 outcome, chosen, moved, deleted, files_deleted, without_file, deferred, counted)
    SELECT '2026-01-01', 'email', gen_random_uuid(), now(), 'real', 0, i, now(), 1, 'removed', 1, 1, 0, 0, 0, 0, true
    FROM generate_series(1, 20000) AS i
    """
)
BUFFERS_OF_A_SCRAPE = 60


@pytest.mark.parametrize("has_statistics", [True, False])
def test_a_scrape_does_not_read_the_steps_that_are_counted(app, connection, has_statistics):
    connection.execute(MANY_STEPS)
    if has_statistics:
        connection.execute(text("VACUUM ANALYZE retention.steps"))
    explained = connection.execute(
        text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {totals_dao.READ.text}"), totals_dao.BOUNDS
    ).scalar_one()
    plan = explained[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < BUFFERS_OF_A_SCRAPE
