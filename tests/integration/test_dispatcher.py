"""The dispatcher: whatever was lost is sent again, soon, and never so often that it fills the queue.

Promises 6 and 7. Seen to fail: the look for due chains; for leases that ran out; the pause before a wake-up is sent
again; its growth; types whose fan-out was lost, and the nights after which they are left; deferred letters, and
their service's failure let through.
"""

from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy import text

from app import clock
from app.celery import celery, nightly_tasks
from app.dao import runs_dao
from app.db import db
from app.retention import nightly
from tests.chain_steps import chain, change, do, do_all, open_chains
from tests.concurrency import trigger
from tests.factories import create_notification, create_service, days_ago, history, tonight

SECOND = timedelta(seconds=1)
RESEND = 60
PAST = days_ago(10)


@pytest.fixture
def settings_override():
    return {"DISPATCH_EVERY_SECONDS": str(RESEND)}


def dispatched_at(instant, *, messages_wait=False):
    """The chains that the dispatcher wakes at this instant."""
    with freeze_time(instant):
        return [wake.chain for wake in nightly.dispatch(messages_wait=messages_wait)[0]]


def test_a_chain_whose_message_was_lost_is_woken_after_the_dispatchers_interval(app, connection):
    (wake,) = open_chains(create_service(connection))
    sent_at = chain(connection, wake)["sent_at"]
    assert dispatched_at(sent_at + (RESEND - 1) * SECOND) == []
    assert dispatched_at(sent_at + (RESEND + 1) * SECOND) == [wake.chain]


def test_a_message_that_stays_unanswered_is_sent_again_ever_less_often(app, connection):
    (wake,) = open_chains(create_service(connection))
    sent_at = chain(connection, wake)["sent_at"]
    for times in (1, 2, 4, 8, 16, 16, 16):
        assert dispatched_at(sent_at + times * RESEND * SECOND - SECOND) == []
        sent_at += times * RESEND * SECOND + SECOND
        assert dispatched_at(sent_at) == [wake.chain]


def test_while_messages_wait_in_the_queue_those_that_are_not_answered_are_not_taken_for_lost(app, connection):
    """A night of thousands of services is longer than the dispatcher's patience, and each would be sent twice."""
    sent, unsent, died = (open_chains(create_service(connection))[0] for _ in range(3))
    sent_at = chain(connection, sent)["sent_at"]
    change(connection, unsent, "sent_at = NULL")
    change(connection, died, "lease_token = gen_random_uuid(), lease_until = :until, attempts = 1", until=sent_at)
    later = sent_at + (RESEND + 1) * SECOND
    assert sorted(dispatched_at(later, messages_wait=True)) == [unsent.chain, died.chain]
    assert dispatched_at(sent_at + (16 * RESEND - 1) * SECOND, messages_wait=True) == [died.chain]
    assert sent.chain in dispatched_at(sent_at + (16 * RESEND + 1) * SECOND, messages_wait=True)


def test_the_dispatchers_task_looks_into_the_queue(app, connection, monkeypatch):
    asked = []
    monkeypatch.setattr(nightly, "dispatch", lambda *, messages_wait: asked.append(messages_wait) or ([], []))
    celery.control.purge()  # what other tests of this process sent
    try:
        nightly_tasks.dispatch_retention()
        nightly_tasks.delete_notifications_older_than_retention.delay()
        nightly_tasks.dispatch_retention()
    finally:
        celery.control.purge()
    assert asked == [False, True]


def test_a_step_that_is_done_lets_the_next_ones_message_be_missed_soon_again(app, connection):
    service = create_service(connection)
    create_notification(connection, service)
    (wake,) = open_chains(service)
    change(connection, wake, "wakes = 4, rows_per_step = 1")
    (second,) = do(wake)
    sent_at = chain(connection, wake)["sent_at"]
    with freeze_time(sent_at + (RESEND + 1) * SECOND):
        assert nightly.dispatch()[0] == [second]


def test_a_chain_is_woken_when_its_time_comes_and_not_before(app, connection):
    (wake,) = open_chains(create_service(connection))
    due_at = clock.now() + timedelta(minutes=30)
    change(connection, wake, "due_at = :due_at, sent_at = NULL", due_at=due_at)
    assert dispatched_at(due_at - SECOND) == []
    assert dispatched_at(due_at) == [wake.chain]
    assert dispatched_at(due_at + SECOND) == []


def test_a_chain_whose_worker_died_is_woken_when_its_lease_has_run_out(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service)
    (wake,) = open_chains(service)
    until = clock.now() + timedelta(minutes=5)
    change(
        connection,
        wake,
        "lease_token = gen_random_uuid(), lease_holder = 'killed', lease_until = :until, attempts = 1",
        until=until,
    )
    assert dispatched_at(until - SECOND) == []
    with freeze_time(until):
        (again,) = nightly.dispatch()[0]
        do_all([again])
    assert history(connection) == {email}
    assert chain(connection, wake)["state"] == "ended"


@pytest.mark.parametrize(
    ("state", "reason"),
    [("ended", None), ("resting", "missing-files")],
)
def test_a_chain_that_has_ended_or_rests_for_an_operator_is_left_alone(app, connection, state, reason):
    (wake,) = open_chains(create_service(connection))
    change(connection, wake, "state = :state, reason = :reason, sent_at = NULL", state=state, reason=reason)
    assert dispatched_at(clock.now() + timedelta(hours=3)) == []


def test_two_dispatchers_do_not_send_the_same_message_twice(app, connection):
    wakes = [open_chains(create_service(connection))[0] for _ in range(3)]
    connection.execute(text("UPDATE retention.chains SET sent_at = NULL"))
    now = clock.now() + SECOND
    assert sorted(dispatched_at(now)) == [wake.chain for wake in wakes]
    assert dispatched_at(now) == []


def test_types_whose_task_was_lost_are_sent_again_until_they_are_fanned_out(app, connection):
    night = nightly.start_run()
    sent_at = clock.now()

    def unsent(instant):
        with freeze_time(instant):
            return sorted(nightly.dispatch()[1])

    assert unsent(sent_at + (RESEND - 1) * SECOND) == []
    with freeze_time(sent_at):
        nightly.fan_out("sms", night)
    later = sent_at + (RESEND + 1) * SECOND
    assert unsent(later) == [(night, "email"), (night, "letter")]
    assert unsent(later + SECOND) == []
    later += (RESEND + 1) * SECOND
    assert unsent(later) == [(night, "email"), (night, "letter")]


@pytest.mark.parametrize(("nights_ago", "is_sent"), [(0, True), (7, True), (8, False)])
def test_a_lost_type_is_sent_again_for_a_week(app, connection, nights_ago, is_sent):
    night = tonight() - timedelta(days=nights_ago)
    with db.transaction() as own:
        runs_dao.start_run(own, night, days_ago(nights_ago, hours=1))
        runs_dao.mark_type_sent(own, night, "email", days_ago(nights_ago, hours=1))
    assert nightly.dispatch()[1] == ([(night, "email")] if is_sent else [])


def defer(connection, service, kind, next_attempt_at):
    connection.execute(
        text(
            "INSERT INTO retention.deferred_rows (notification_id, service_id, kind, cutoff, reason, attempts, "
            "first_failed_at, last_failed_at, next_attempt_at, needs_person, notification_type) VALUES "
            "(gen_random_uuid(), :service, :kind, :past, 'AccessDenied', 1, :past, :past, :next, false, 'letter')"
        ),
        {"service": service, "kind": kind, "past": PAST, "next": next_attempt_at},
    )


@pytest.mark.parametrize(("kind", "stage"), [("real", "deferred"), ("test", "test")])
def test_deferred_letters_get_a_chain_when_their_next_attempt_is_due_and_only_one(app, connection, kind, stage):
    service, due_at = create_service(connection), clock.now() + timedelta(hours=1)
    defer(connection, service, kind, due_at)
    defer(connection, service, kind, due_at)
    assert dispatched_at(due_at - SECOND) == []
    with freeze_time(due_at):
        (wake,) = nightly.dispatch()[0]
        assert (wake.service_id, wake.notification_type, wake.stage) == (service, "letter", stage)
        assert nightly.dispatch()[0] == []


def test_deferred_letters_of_the_same_cut_off_get_the_same_chain_again(app, connection):
    service = create_service(connection)
    defer(connection, service, "real", days_ago(1))
    (wake,) = nightly.dispatch()[0]
    assert do(wake) == []  # its letter's row is gone: the chain ends and forgets it
    assert chain(connection, wake)["state"] == "ended"
    assert connection.execute(text("SELECT count(*) FROM retention.deferred_rows")).scalar() == 0
    defer(connection, service, "real", days_ago(1))
    (again,) = nightly.dispatch()[0]
    assert (again.chain, again.step) == (wake.chain, wake.step + 2)


def test_deferred_letters_whose_chain_cannot_be_opened_do_not_stop_the_others(app, connection):
    services = [create_service(connection) for _ in range(3)]
    for service in services:
        defer(connection, service, "real", days_ago(1))
    (waiting,) = open_chains(create_service(connection))
    change(connection, waiting, "sent_at = NULL")
    body = f"IF NEW.service_id = '{services[1]}' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    with trigger(connection, "BEFORE INSERT ON retention.chains", body):
        wakes, _ = nightly.dispatch()
    assert {wake.service_id for wake in wakes} == {services[0], services[2], waiting.service_id}
    assert [wake.service_id for wake in nightly.dispatch()[0]] == [services[1]]
