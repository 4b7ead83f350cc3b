"""What went, when, from the records of steps; and the records' own retention.

Seen to fail: steps purged that the totals have not counted.
"""

import json
from datetime import date, timedelta

import pytest
from sqlalchemy import text

from app import clock
from app.retention import nightly, records
from app.retention.history import history
from tests.factories import EMAIL_ADDRESS, create_letter, create_notification, create_service, days_ago, tonight
from tests.integration.night import run_night

RECORD = text(
    "INSERT INTO retention.steps (night, notification_type, service_id, cutoff, stage, slice, step, started_at, "
    "seconds, outcome, chosen, moved, deleted, files_deleted, without_file, deferred, counted) VALUES "
    "(:night, :type, :service, :night, :stage, 0, 0, :night + interval '3 hours', "
    "90, 'removed', 9, 5, 1, 3, 1, 2, true)"
)
TABLES = (
    "steps",
    "letter_looks",
    "intents",
    "folder_counts",
    "chains",
    "accepted_missing",
    "run_types",
    "runs",
    "audits",
)


@pytest.fixture
def settings_override():
    return {"FAN_OUT_SPREAD_SECONDS": "0", "RECORDS_KEPT_DAYS": "10"}


@pytest.fixture
def flask(app):
    runner = app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["retention", "history", *map(str, arguments)])


def record(connection, service, night, notification_type="email", stage="real"):
    connection.execute(RECORD, {"night": night, "service": service, "type": notification_type, "stage": stage})


def test_steps_are_added_up_by_night_type_and_stage_of_the_one_service(app, connection):
    service, other = create_service(connection), create_service(connection)
    days = [date(2026, 3, day) for day in (1, 2, 3, 4)]
    for day in days:
        for of in (service, service, other):
            record(connection, of, day)
    record(connection, service, days[1], stage="test")
    record(connection, service, days[2], "letter")
    found = history(service, days[1], days[2])
    assert [(one.night, one.notification_type, one.stage, one.steps) for one in found] == [
        (days[1], "email", "real", 2),
        (days[1], "email", "test", 1),
        (days[2], "email", "real", 2),
        (days[2], "letter", "real", 1),
    ]
    first = found[0]
    counts = (first.moved, first.deleted, first.files_deleted, first.without_file, first.deferred)
    assert counts == (10, 2, 6, 2, 4)
    assert (first.last_at - first.first_at, first.service_id) == (timedelta(seconds=90), service)
    assert [one.notification_type for one in history(service, "2026-03-03", notification_types=["letter"])] == [
        "letter"
    ]


def test_the_command_answers_for_a_night_without_personal_data(app, connection, s3, flask):
    service = create_service(connection)
    create_notification(connection, service, reference="a-reference")
    create_letter(connection, s3, service, reference="A-LETTER")
    for notification_type in ("email", "letter"):
        run_night(notification_type)
    ended = flask("--service", service, "--day", tonight(), "--json")
    said = json.loads(ended.stdout)
    assert (
        ended.exit_code,
        {(one["notification_type"], one["stage"], one["moved"], one["files_deleted"]) for one in said},
    ) == (
        0,
        {("email", "real", 1, 0), ("letter", "real", 1, 1)},
    )
    table = flask("--service", service, "--from", tonight(), "--to", tonight())
    assert "2 rows moved to history, 0 test rows deleted, 1 files deleted." in table.stdout
    for secret in (EMAIL_ADDRESS, "a-reference", "A-LETTER", "private"):
        assert secret not in ended.stdout + table.stdout


def test_a_service_that_is_gone_still_has_its_history(app, connection, flask):
    service = "6ce466d0-fd6a-11e5-82f5-e0accb9d11a6"
    record(connection, service, date(2026, 3, 1))
    assert [one.moved for one in history(service, "2026-03-01")] == [5]
    quiet = flask("--service", service, "--day", "2026-03-02")
    assert (quiet.exit_code, quiet.stdout) == (0, "No step is on record for this.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--service", "6ce466d0-fd6a-11e5-82f5-e0accb9d11a6", "--day", "2026-03-01"], "there is no service"),
        (["--service", "me", "--day", "2026-03-01"], "'me' is not a service id; it must be a UUID"),
        (["--service", "me"], "give --day, or --from and perhaps --to"),
        (["--service", "SERVICE", "--day", "yesterday"], "'yesterday' is not a day; it must be a date such as"),
        (["--service", "SERVICE", "--from", "2026-03-02", "--to", "2026-03-01"], "give the earlier date first"),
        (["--service", "SERVICE", "--day", "2026-03-01", "--type", "fax"], "'fax' is not one of"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence_with_2(app, connection, flask, arguments, sentence):
    service = str(create_service(connection))
    ended = flask(*[service if argument == "SERVICE" else argument for argument in arguments])
    assert (ended.exit_code, sentence in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


def fill_records(connection, night):
    """A record of each kind of that night; its chain has ended, unless it is the second."""
    values = {"night": night, "service": create_service(connection)}
    record(connection, values["service"], night)
    for statement in (
        "INSERT INTO retention.letter_looks (night, bucket, looked, missing) VALUES (:night, 'b', 1, 0)",
        "INSERT INTO retention.intents (service_id, kind, looked_in, notification_ids, written_at) "
        "VALUES (:service, 'real', 'b', '{}', :night)",
        "INSERT INTO retention.folder_counts VALUES (:night, 'b', 'f', :night, 1, 0)",
        "INSERT INTO retention.runs VALUES (:night, :night)",
        "INSERT INTO retention.run_types (night, notification_type, sent_at) VALUES (:night, 'email', :night)",
        "INSERT INTO retention.chains (night, notification_type, service_id, cutoff, stage, state, due_at, created_at) "
        "VALUES (:night, 'email', :service, :night, 'real', 'ended', :night, :night)",
        "INSERT INTO retention.accepted_missing VALUES (:night, 'b', :night, 'me')",
        "INSERT INTO retention.audits (started_at, advanced_at, started_by, deletes) "
        "VALUES (:night, :night, 'me', false)",
        "INSERT INTO retention.audit_findings (audit_id, kind, found_at) "
        "SELECT max(id), 'file-of-nobody', :night FROM retention.audits",
    ):
        connection.execute(text(statement), values)


def counted(connection):
    return {table: connection.execute(text(f"SELECT count(*) FROM retention.{table}")).scalar() for table in TABLES}


def test_records_go_when_their_time_is_up_each_kind_of_them(app, connection):
    fill_records(connection, tonight() - timedelta(days=12))
    fill_records(connection, tonight() - timedelta(days=8))
    nightly.start_run()
    left = counted(connection)
    assert left == {**dict.fromkeys(TABLES, 1), "runs": 2, "run_types": 4}, "tonight's run beside the younger"
    assert connection.execute(text("SELECT count(*) FROM retention.audit_findings")).scalar() == 1


def test_a_run_stays_as_long_as_one_of_its_chains_has_not_ended(app, connection):
    fill_records(connection, tonight() - timedelta(days=12))
    connection.execute(text("UPDATE retention.chains SET state = 'waiting'"))
    records.purge(clock.now())
    assert {table: count for table, count in counted(connection).items() if count} == {"chains": 1, "runs": 1}


def test_records_go_in_batches_until_none_is_left_or_the_time_is_up(app, connection, monkeypatch):
    monkeypatch.setattr(records, "RECORDS_PER_BATCH", 2)
    service = create_service(connection)
    for _ in range(7):
        record(connection, service, days_ago(20).date())
    assert records.purge(clock.now(), seconds=-1) == 2
    assert records.purge(clock.now()) == 5
    assert counted(connection)["steps"] == 0


def test_a_step_that_the_totals_have_not_counted_yet_stays(app, connection):
    record(connection, create_service(connection), days_ago(20).date())
    connection.execute(text("UPDATE retention.steps SET counted = false"))
    records.purge(clock.now())
    assert counted(connection)["steps"] == 1
