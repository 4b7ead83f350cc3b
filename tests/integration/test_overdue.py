"""What is overdue is seen in the data, whatever the tasks say of themselves.

Seen to fail: the midnight at which time is up (a day early, a day late, UTC's), a row exactly at its
cut-off, the cap, the second look for a final letter behind letters that are not, holds, the reasons, each limit, what
is red last, and the exit status.
"""

import json
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy import text

from app.dao.holds_dao import PIPELINE
from app.retention import operations, overdue
from app.retention.overdue import MISSING_FILES, NO_SERVICE, NOT_FINAL, ON_HOLD, OVERDUE, REFUSED
from tests.chain_steps import open_chains
from tests.factories import create_letter, create_notification, create_service, days_ago, tonight
from tests.ops import seem_alive


@pytest.mark.parametrize(
    ("created_at", "days", "up"),
    [
        ("2026-07-01T22:59:59Z", 7, "2026-07-08T23:00:00Z"),  # 23:59:59 in London
        ("2026-07-01T23:00:00Z", 7, "2026-07-09T23:00:00Z"),  # midnight there: the day after
        ("2026-10-24T12:00:00Z", 1, "2026-10-26T00:00:00Z"),  # the clocks go back in between
        ("2026-03-28T12:00:00Z", 1, "2026-03-29T23:00:00Z"),  # and forward
    ],
)
def test_time_is_up_at_the_midnight_when_the_cut_off_lies_after_the_row(settings, created_at, days, up):
    made = overdue.time_is_up(datetime.fromisoformat(created_at), days, settings)
    assert made == datetime.fromisoformat(up)


def seen():
    return [(one.kind, one.notification_type, one.rows, one.more) for one in overdue.measure().kept]


def test_with_nothing_past_its_retention_nothing_is_overdue(app, connection):
    service = create_service(connection, email=3)
    create_notification(connection, service, "email", days_ago(2))
    state = overdue.measure()
    assert (state.kept, state.is_red, state.sentence) == ([], False, "Nothing is overdue.")


@pytest.mark.parametrize(
    ("notification_type", "status", "kind"),
    [("email", "delivered", OVERDUE), ("letter", "delivered", OVERDUE), ("letter", "created", NOT_FINAL)],
)
def test_a_row_at_its_cut_off_is_not_counted_with_one_before_it(app, connection, notification_type, status, kind):
    service = create_service(connection, **{notification_type: 3})
    cutoff = datetime(2026, 7, 6, 23, tzinfo=UTC)  # midnight in London
    before = cutoff - timedelta(microseconds=1)
    create_notification(connection, service, notification_type, before, notification_status=status)
    create_notification(connection, service, notification_type, cutoff, notification_status="delivered")
    with freeze_time(cutoff + timedelta(days=3, hours=12)):
        assert seen() == [(kind, notification_type, 1, False)]


@pytest.mark.parametrize(("hours", "red"), [(24, False), (24.1, True)])
def test_it_is_red_when_the_oldest_is_overdue_for_longer_than_the_limit(app, connection, hours, red):
    service = create_service(connection, email=3)
    up = datetime(2026, 7, 6, 23, tzinfo=UTC)  # midnight in London
    create_notification(connection, service, "email", up - timedelta(days=4), key_type="test")
    with freeze_time(up + timedelta(hours=hours)):
        state = overdue.measure()
    assert (state.oldest, state.is_red) == (timedelta(hours=hours), red)
    assert state.sentence == "1 notification of 1 service is past its retention, the oldest by 1 day."


def test_rows_are_counted_up_to_the_cap_and_no_further(app, connection, monkeypatch):
    monkeypatch.setattr(overdue, "COUNT_NO_FURTHER", 3)
    service, other = create_service(connection), create_service(connection)
    for _ in range(4):
        create_notification(connection, service, "sms")
    for _ in range(3):
        create_notification(connection, other, "sms", days_ago(20))
    assert seen() == [(OVERDUE, "sms", 3, True), (OVERDUE, "sms", 3, False)]
    assert overdue.measure().sentence.startswith("More than 6 notifications of 2 services")


def test_a_final_letter_is_found_behind_more_letters_that_are_not_final_than_are_counted(
    app, connection, s3, monkeypatch
):
    monkeypatch.setattr(overdue, "COUNT_NO_FURTHER", 3)
    service = create_service(connection)
    for status in ("created", "sending", "pending-virus-check", "pending"):
        create_letter(connection, s3, service, days_ago(40), notification_status=status, file=False)
    create_letter(connection, s3, service, days_ago(20), file=False)
    assert seen() == [(NOT_FINAL, "letter", 3, True), (OVERDUE, "letter", 1, True)]


def test_what_waits_for_a_reason_of_its_own_is_told_apart(app, connection, s3):
    held, waiting, resting, refused = (create_service(connection) for _ in range(4))
    create_notification(connection, held, "email", days_ago(20))
    operations.hold(held, "a court asks", "me")
    create_letter(connection, s3, waiting, days_ago(20), notification_status="created", file=False)
    create_letter(connection, s3, resting, days_ago(8.5), file=False)
    rest(connection, resting)
    create_notification(connection, None, "sms", days_ago(20))
    connection.execute(
        text(
            "INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at) "
            "VALUES (gen_random_uuid(), :service, 'email', 0, now())"
        ),
        {"service": refused},
    )
    state = overdue.measure()
    kinds = {(one.kind, one.notification_type, one.service_id, one.rows) for one in state.kept}
    assert kinds == {
        (ON_HOLD, "email", held, 1),
        (NOT_FINAL, "letter", waiting, 1),
        (MISSING_FILES, "letter", resting, 1),
        (NO_SERVICE, "sms", None, 1),
        (REFUSED, "email", refused, 0),
    }
    assert {one.kind for one in state.kept if state.is_alarm(one)} == {REFUSED}
    assert state.waiting[0].kind == REFUSED, "what is red comes first, however long the others have waited"
    assert state.sentence == "Nothing is overdue, but something waits for a person."


def rest(connection, service):
    connection.execute(
        text("INSERT INTO retention.runs (night, started_at) VALUES (:night, now()) ON CONFLICT DO NOTHING"),
        {"night": tonight()},
    )
    connection.execute(
        text(
            "INSERT INTO retention.chains (night, notification_type, service_id, cutoff, stage, state, reason, due_at, "
            "created_at) VALUES (:night, 'letter', :service, now(), 'real', 'resting', 'missing-files', now(), now())"
        ),
        {"night": tonight(), "service": service},
    )


LIMITS = [(ON_HOLD, "ON_HOLD_RED_DAYS"), (NOT_FINAL, "NOT_FINAL_RED_DAYS"), (MISSING_FILES, "MISSING_FILES_RED_DAYS")]


@pytest.mark.parametrize(("kind", "setting"), LIMITS)
@pytest.mark.parametrize(("days", "red"), [(5.5, False), (5.4, True)])
def test_each_reason_has_a_limit_of_its_own(app, settings, connection, s3, kind, setting, days, red, monkeypatch):
    service = create_service(connection)
    now = datetime(2026, 7, 20, 11, tzinfo=UTC)  # noon in London; time was up at midnight after seven days
    status = "created" if kind == NOT_FINAL else "delivered"
    create_letter(connection, s3, service, now - timedelta(days=13), notification_status=status, file=False)
    limited = settings.model_copy(update={setting.lower(): days})
    monkeypatch.setitem(app.extensions, "retention.tools", type(app.extensions["retention.tools"])(limited))
    if kind == ON_HOLD:
        operations.hold(service, "a court asks", "me")
    if kind == MISSING_FILES:
        rest(connection, service)
    with freeze_time(now):
        state = overdue.measure()
    assert [(one.kind, one.past, state.is_alarm(one)) for one in state.kept] == [(kind, timedelta(days=5.5), red)]


def test_the_reasons_for_which_letters_are_held_back_are_named_and_they_stay_overdue(app, connection, s3):
    service = create_service(connection)
    letter = create_letter(connection, s3, service, file=False)
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows VALUES "
            "(:id, :service, 'real', now(), 'AccessDenied', 3, now(), now(), now(), false, 'letter')"
        ),
        {"id": letter, "service": service},
    )
    (kept,) = overdue.measure().kept
    assert (kept.kind, kept.why) == (OVERDUE, ("AccessDenied (1)",))


def told(app, *options) -> tuple[int, str]:
    done = app.test_cli_runner().invoke(args=["retention", "overdue", *options])
    return done.exit_code, done.stdout


def test_the_command_says_the_headline_first_and_exits_with_1_when_a_person_must_act(app, connection):
    seem_alive(connection)
    assert told(app) == (0, "Nothing is overdue.\n")
    service = create_service(connection)
    create_notification(connection, service, created_at=days_ago(20))
    exit_code, said = told(app)
    assert exit_code == 1
    assert said.startswith("1 row of email should be gone, the oldest 1")
    assert str(service) in said
    assert max(map(len, said.splitlines())) <= 80


def test_the_command_is_not_fine_while_nothing_is_alive_while_it_is_paused_or_while_batches_fail(app, connection):
    assert told(app)[0] == 1
    assert told(app)[1].startswith("No worker is alive: nothing is deleted. And 2 more things to look at.")
    seem_alive(connection)
    operations.pause("a migration", "olga", 0)
    exit_code, said = told(app)
    assert (exit_code, said.partition(":")[0]) == (3, "The pipeline is paused by olga (a migration)")
    operations.lift(PIPELINE, "olga")
    service = create_service(connection)
    create_notification(connection, service, created_at=days_ago(8))
    open_chains(service, "email")
    failed = "UPDATE retention.chains SET attempts = 6, last_error = 'StepFailed: CheckViolation 23514 (a_check)'"
    connection.exec_driver_sql(failed)
    exit_code, said = told(app, "--json")
    answer = json.loads(said)
    assert (exit_code, answer["severity"]) == (1, "act")
    assert "Batches of email fail: StepFailed: CheckViolation 23514 (a_check), 6 times in a row" in answer["headline"]
    assert [one["type"] for one in answer["kept"]] == ["email"]


def test_a_question_that_could_not_be_asked_ends_with_2(app, connection):
    connection.exec_driver_sql("ALTER TABLE service_data_retention RENAME TO elsewhere")
    try:
        assert told(app)[0] == 2
    finally:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO service_data_retention")
