"""Emails and text messages, one step: the rows that were locked move, whole and once, or nothing does.

Which guard was taken out, to see the tests of a promise fail:
2  the order by id; SKIP LOCKED (the step then waited until its lock time-out)
3  the comparison of the rows deleted; that of the rows written; the copy to history itself
4  the restriction to rows that are not test ones, and that to rows that are
8  the condition on history's row being older; `>=` made `>`; one column left out of the assignments; the look whether
   history has an id already
9  the derivation of the columns, which then took `to` along
"""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from app.models.types import STATUSES
from app.retention import delete_test_notifications, move_notifications_to_notification_history
from app.retention.steps import StepFailed
from tests.concurrency import background, locked, wait_until, waiting_for_locks
from tests.factories import create_history, create_notification, create_service, days_ago, history, live, naive, steps

LOCK = "SELECT FROM notifications WHERE id = :id FOR UPDATE"


def move(service, notification_type="email", limit=None):
    return move_notifications_to_notification_history(notification_type, service, days_ago(0), limit)


@pytest.mark.parametrize(("notification_type", "other_type"), [("email", "sms"), ("sms", "email")])
def test_exactly_the_overdue_real_rows_of_the_service_and_type_move(app, connection, notification_type, other_type):
    service, other_service = create_service(connection), create_service(connection)
    overdue = {create_notification(connection, service, notification_type, days_ago(9 + n)) for n in range(5)}
    overdue.add(create_notification(connection, service, notification_type, key_type="team"))
    kept = {
        create_notification(connection, service, notification_type, days_ago(5)),
        create_notification(connection, service, notification_type, key_type="test"),
        create_notification(connection, service, other_type),
        create_notification(connection, service, "letter"),
        create_notification(connection, other_service, notification_type),
        create_notification(connection, None, notification_type),
    }
    assert move(service, notification_type) == 6
    assert (live(connection), history(connection)) == (kept, overdue)


@pytest.mark.parametrize("status", [*STATUSES, None])
def test_an_email_moves_whatever_its_status(app, connection, status):
    service = create_service(connection)
    email = create_notification(connection, service, notification_status=status)
    assert move(service) == 1
    assert (live(connection), history(connection)) == (set(), {email})


def test_rows_of_the_same_instant_are_taken_by_id_and_none_is_lost_or_taken_twice(app, connection):
    service, instant = create_service(connection), days_ago(20)
    ids = sorted(create_notification(connection, service, created_at=instant) for _ in range(7))
    moved_after = []
    for _ in range(4):
        move(service, limit=3)
        moved_after.append(sorted(history(connection)))
        assert sorted(live(connection) | history(connection)) == ids
        assert live(connection) & history(connection) == set()
    assert moved_after == [ids[:3], ids[:6], ids, ids]


def test_the_oldest_rows_go_first(app, connection):
    service = create_service(connection)
    by_age = [create_notification(connection, service, created_at=days_ago(days)) for days in (40, 30, 20, 10)]
    assert move(service, limit=2) == 2
    assert history(connection) == set(by_age[:2])


OTHER_JOB = UUID(int=7)
LIVE = {
    "notification_status": "delivered",
    "reference": "live",
    "billable_units": 1,
    "sent_by": "one",
    "job_id": OTHER_JOB,
    "template_version": 5,
    "client_reference": None,
    "rate_multiplier": 2,
}
IN_HISTORY = {
    "notification_status": "sending",
    "reference": "history",
    "billable_units": 9,
    "sent_by": None,
    "job_id": None,
    "template_version": 4,
    "client_reference": "theirs",
    "rate_multiplier": 3,
}
SECOND = timedelta(seconds=1)
CREATED = days_ago(30)


@pytest.mark.parametrize(
    ("live_updated", "history_updated", "winner"),
    [
        (CREATED + 2 * SECOND, CREATED + SECOND, LIVE),
        (CREATED + SECOND, CREATED + SECOND, LIVE),
        (CREATED + SECOND, CREATED + 2 * SECOND, IN_HISTORY),
        (None, CREATED + SECOND, IN_HISTORY),
        (CREATED + SECOND, None, LIVE),
        (None, None, LIVE),
        (None, CREATED, LIVE),
        (CREATED, None, LIVE),
        (None, CREATED - SECOND, LIVE),
    ],
)
def test_where_history_has_the_id_the_newer_row_wins_with_all_its_columns(
    app, connection, live_updated, history_updated, winner
):
    service = create_service(connection)
    email = create_notification(
        connection, service, created_at=CREATED, updated_at=live_updated and naive(live_updated), **LIVE
    )
    create_history(
        connection,
        id=email,
        service_id=service,
        created_at=naive(CREATED),
        updated_at=history_updated and naive(history_updated),
        **IN_HISTORY,
    )
    assert move(service) == 1
    assert live(connection) == set()
    row = connection.execute(text("SELECT * FROM notification_history")).mappings().one()
    expected_updated = live_updated if winner is LIVE else history_updated
    assert {name: row[name] for name in winner} == winner
    assert row["updated_at"] == (expected_updated and naive(expected_updated))


def test_rows_that_history_has_and_rows_that_it_lacks_move_in_one_batch(app, connection):
    service = create_service(connection)
    ids = {create_notification(connection, service, reference="live") for _ in range(3)}
    older = {"service_id": service, "created_at": naive(days_ago(90)), "reference": "history"}
    create_history(connection, id=min(ids), **older)
    assert move(service) == 3
    assert (live(connection), history(connection)) == (set(), ids)
    assert set(connection.execute(text("SELECT reference FROM notification_history")).scalars()) == {"live"}


def test_an_id_that_comes_into_history_during_the_step_is_met_with_the_newer_row_too(app, connection):
    service = create_service(connection)
    ids = {create_notification(connection, service) for _ in range(3)}
    copied = (
        "INSERT INTO notification_history (id, template_id, template_version, key_type, notification_type, created_at)"
    )
    with background(app) as start:
        with locked(app, f"{copied} VALUES (:id, :id, 1, 'normal', 'email', :at)", id=min(ids), at=naive(days_ago(90))):
            step = start(move, service)
            wait_until(lambda: waiting_for_locks(connection) == 1)
        assert step.result(30) == 3
    assert (live(connection), history(connection)) == (set(), ids)
    assert len(set(connection.execute(text("SELECT service_id FROM notification_history")).scalars())) == 1


PRIVATE = {
    "to": "private to",
    "normalised_to": "private normalised",
    "_personalisation": "private content",
    "reply_to_text": "private reply",
    "unsubscribe_link": "https://private.test",
}


def test_history_gets_every_column_that_it_shares_and_nothing_private(app, connection):
    service = create_service(connection)
    create_notification(
        connection, service, sent_at=naive(days_ago(29)), international=True, phone_prefix="49", **PRIVATE
    )
    before = dict(connection.execute(text("SELECT * FROM notifications")).mappings().one())
    assert move(service) == 1
    after = dict(connection.execute(text("SELECT * FROM notification_history")).mappings().one())
    assert before.keys() - after.keys() == PRIVATE.keys()
    assert after == {name: value for name, value in before.items() if name not in PRIVATE}
    assert "private" not in str(after)


def test_a_column_that_both_tables_gain_moves_once_the_workers_may_read_it(app, connection):
    service = create_service(connection)
    tables = ("notifications", "notification_history")
    for table in tables:
        connection.execute(text(f'ALTER TABLE {table} ADD COLUMN "Cost, in pence" integer'))
    try:
        email = create_notification(connection, service)
        connection.execute(text('UPDATE notifications SET "Cost, in pence" = 42'))
        with pytest.raises(StepFailed, match="InsufficientPrivilege"):
            move(service)
        assert live(connection) == {email}
        connection.execute(text('GRANT SELECT ("Cost, in pence") ON notifications TO PUBLIC'))
        assert move(service) == 1
        kept = connection.execute(text('SELECT id, "Cost, in pence" FROM notification_history')).all()
        assert kept == [(email, 42)]
    finally:
        for table in tables:
            connection.execute(text(f'ALTER TABLE {table} DROP COLUMN "Cost, in pence"'))


def test_a_column_that_history_computes_itself_is_left_to_it(app, connection):
    service = create_service(connection)
    create_notification(connection, service)
    computed = "integer GENERATED ALWAYS AS (template_version * 2) STORED"
    connection.execute(text(f"ALTER TABLE notification_history ADD COLUMN twice {computed}"))
    try:
        assert move(service) == 1
        assert connection.execute(text("SELECT twice FROM notification_history")).scalar() == 2
    finally:
        connection.execute(text("ALTER TABLE notification_history DROP COLUMN twice"))


def test_rows_that_another_connection_holds_are_passed_over_and_stay(app, connection):
    service = create_service(connection)
    held, *others = sorted(create_notification(connection, service, created_at=days_ago(20)) for _ in range(4))
    with locked(app, LOCK, id=held):
        assert move(service, limit=2) == 2
        assert move(service, limit=2) == 1
        assert move(service, limit=2) == 0
        assert (live(connection), history(connection)) == ({held}, set(others))
    assert move(service) == 1
    assert (live(connection), history(connection)) == (set(), {held, *others})


def test_two_tasks_for_the_same_service_move_each_row_once_and_say_what_they_moved(app, connection):
    service = create_service(connection)
    ids = {create_notification(connection, service, created_at=days_ago(20)) for _ in range(60)}
    with background(app) as start:
        tasks = [start(lambda: [move(service, limit=4) for _ in range(8)]) for _ in range(2)]
        moved = [sum(task.result(30)) for task in tasks]
    assert sum(moved) + len(live(connection)) == len(ids)
    assert len(history(connection)) == sum(moved)
    assert live(connection) | history(connection) == ids


def test_test_notifications_go_for_good_and_leave_the_real_ones(app, connection):
    service = create_service(connection)
    real = {create_notification(connection, service, key_type=key_type) for key_type in ("normal", "team")}
    for _ in range(3):
        create_notification(connection, service, key_type="test", created_at=days_ago(40))
    assert [delete_test_notifications("email", service, days_ago(0), limit=2) for _ in range(3)] == [2, 1, 0]
    assert (live(connection), history(connection)) == (real, set())


def test_older_test_notifications_take_no_room_in_the_batch_of_the_real_ones(app, connection):
    service = create_service(connection)
    tests = {create_notification(connection, service, key_type="test", created_at=days_ago(90)) for _ in range(5)}
    real = create_notification(connection, service)
    assert move(service, limit=1) == 1
    assert (live(connection), history(connection)) == (tests, {real})


def test_what_a_step_did_is_on_record_without_a_word_of_what_was_sent(app, connection):
    service = create_service(connection)
    ages = [days_ago(days) for days in (30, 20)]
    for created_at in ages:
        create_notification(connection, service, created_at=created_at, **PRIVATE)
    move(service)
    (record,) = steps(connection)
    assert (record["outcome"], record["chosen"], record["moved"], record["deleted"]) == ("removed", 2, 2, 0)
    assert [record["min_created_at"], record["max_created_at"]] == ages
    assert "private" not in str(dict(record))
