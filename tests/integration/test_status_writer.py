"""Statuses that arrive: promise 8. A status is written where the row is, and none is lost to a step.

Seen to fail: the update of history taken out of the writer; the update of the live row, too; the choice without
`FOR UPDATE` (the row was taken while its status was being written); a conflict decided for the live row always.
"""

import threading
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import text

from app import clock
from app.dao.notifications_dao import REAL, update_notification_status
from app.retention import move_notifications_to_notification_history
from app.retention.steps import Work, take_step
from app.retention.tools import tools
from tests.chain_steps import cutoff_tonight
from tests.concurrency import background, locked, wait_until, waiting_for_locks
from tests.factories import (
    create_history,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    naive,
    tonight,
)

WEEK_AGO = days_ago(7)


def status_of(connection, table, notification_id):
    columns = text(f"SELECT notification_status, updated_at FROM {table} WHERE id = :id")
    return connection.execute(columns, {"id": notification_id}).one()


def a_step(service: UUID, rows: int = 100) -> Work:
    return Work(tonight(), service, "email", REAL, cutoff_tonight(), rows)


def test_a_status_is_written_to_the_live_row(app, connection):
    service = create_service(connection)
    email, other = (create_notification(connection, service, updated_at=naive(WEEK_AGO)) for _ in range(2))
    before = naive(clock.now())
    assert update_notification_status(email, "permanent-failure") == "notifications"
    status, updated_at = status_of(connection, "notifications", email)
    assert status == "permanent-failure"
    assert before <= updated_at <= naive(clock.now())
    assert status_of(connection, "notifications", other) == ("delivered", naive(WEEK_AGO))
    assert history(connection) == set()


def test_a_status_is_written_to_history_when_the_row_has_moved(app, connection):
    email, other = (create_history(connection, updated_at=naive(WEEK_AGO)) for _ in range(2))
    before = naive(clock.now())
    assert update_notification_status(email, "delivered") == "notification_history"
    status, updated_at = status_of(connection, "notification_history", email)
    assert status == "delivered"
    assert before <= updated_at <= naive(clock.now())
    assert status_of(connection, "notification_history", other) == ("sending", naive(WEEK_AGO))


def test_a_status_for_a_row_that_is_nowhere_says_so_and_makes_none(app, connection):
    assert update_notification_status(uuid4(), "delivered") is None
    assert (live(connection), history(connection)) == (set(), set())


def test_a_status_that_arrives_during_a_step_waits_for_it_and_is_written_to_history(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service, notification_status="sending")
    with background(app) as start:
        with take_step(tools(), a_step(service)) as step:
            assert step.report.moved == 1
            writer = start(update_notification_status, email, "delivered")
            wait_until(lambda: waiting_for_locks(connection) == 1)
        assert writer.result(10) == "notification_history"
    assert live(connection) == set()
    assert status_of(connection, "notification_history", email)[0] == "delivered"


def test_a_status_that_arrives_during_a_step_that_is_rolled_back_is_written_to_the_live_row(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service, notification_status="sending")
    with background(app) as start:
        with take_step(tools(), a_step(service)) as step:
            assert step.report.moved == 1
            writer = start(update_notification_status, email, "delivered")
            wait_until(lambda: waiting_for_locks(connection) == 1)
            step.connection.rollback()
        assert writer.result(10) == "notifications"
    assert history(connection) == set()
    assert status_of(connection, "notifications", email)[0] == "delivered"


def test_a_status_that_is_being_written_is_waited_for_and_then_carried_along(app, connection):
    service = create_service(connection)
    email, other = (create_notification(connection, service, notification_status="sending") for _ in range(2))
    write = "UPDATE notifications SET notification_status = 'delivered' WHERE id = :id"
    with locked(app, write, id=email):
        assert move_notifications_to_notification_history("email", service, days_ago(0)) == 1
        assert (live(connection), history(connection)) == ({email}, {other})
    assert move_notifications_to_notification_history("email", service, days_ago(0)) == 1
    assert status_of(connection, "notification_history", email)[0] == "delivered"


def test_a_status_that_history_got_first_is_not_overwritten_by_the_older_live_row(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service, notification_status="sending", updated_at=naive(WEEK_AGO))
    newer = naive(WEEK_AGO + timedelta(seconds=1))
    create_history(connection, id=email, service_id=service, notification_status="delivered", updated_at=newer)
    assert move_notifications_to_notification_history("email", service, days_ago(0)) == 1
    assert live(connection) == set()
    assert status_of(connection, "notification_history", email) == ("delivered", newer)


def test_no_status_is_lost_while_steps_and_writers_are_at_it_together(app, connection):
    service = create_service(connection)
    ids = [create_notification(connection, service, created_at=days_ago(20 + n)) for n in range(120)]
    everything_moved = threading.Event()

    def write_all(of_this_writer):
        written = {}
        while not everything_moved.is_set():
            for number, notification_id in enumerate(of_this_writer):
                status = ("sent", "delivered", "failed")[(number + len(written)) % 3]
                assert update_notification_status(notification_id, status)
                written[notification_id] = status
        return written

    with background(app) as start:
        writers = [start(write_all, ids[::2]), start(write_all, ids[1::2])]
        try:
            wait_until(lambda: not move_everything(service) and not live(connection), 30)
        finally:
            everything_moved.set()
        written = {**writers[0].result(10), **writers[1].result(10)}
    assert history(connection) == set(ids)
    kept = connection.execute(text("SELECT id, notification_status FROM notification_history"))
    assert {row[0]: row[1] for row in kept} == written


def move_everything(service: UUID) -> int:
    return move_notifications_to_notification_history("email", service, days_ago(0), limit=7)
