"""The night: which services get chains, when, with which cut-off.

Promises 5 and 7. Seen to fail: the probe for overdue rows (every service got a chain); the night as an argument
(a day late, the cut-off was a day later); the spread; the slices; the report of refused services and of rows without
one; `open_group` without its look for the group, after which nothing that had ended was looked at again, and without
its look for what has ended, after which chains under way began anew; a service's failure let through; `once`
not looked at.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from freezegun import freeze_time
from sqlalchemy import text
from structlog.testing import capture_logs

from app import clock
from app.dao import counting_dao, runs_dao
from app.models.types import NOTIFICATION_TYPES
from app.retention import heartbeat, nightly
from app.retention.chains import run_step
from app.retention.tools import tools
from tests.chain_steps import cutoff_tonight, do_all
from tests.concurrency import background, trigger, wait_until, waiting_for_locks
from tests.factories import (
    chains,
    create_history,
    create_notification,
    create_service,
    days_ago,
    history,
    live,
    set_retention,
    tonight,
)

NIGHT = "2026-03-29T02:00:00Z"
NEXT_MORNING = "2026-03-30T07:00:00Z"


@pytest.fixture
def settings_override():
    return {"MESSAGES_PER_STEP": "3", "ROWS_PER_SLICE": "5", "SLICES_PER_SERVICE": "3", "FAN_OUT_SPREAD_SECONDS": "300"}


def run_types(connection):
    return connection.execute(text("SELECT * FROM retention.run_types ORDER BY notification_type")).mappings().all()


def create_large_service(connection):
    """A service with chains of its own: it has more rows than a batch."""
    service = create_service(connection)
    for _ in range(6):
        create_notification(connection, service)
    return service


def make_due(connection):
    connection.execute(text("UPDATE retention.chains SET due_at = created_at"))


def test_a_night_is_started_once_however_often_its_task_is_delivered(app, connection):
    assert [nightly.start_run(), nightly.start_run()] == [tonight(), tonight()]
    assert list(connection.execute(text("SELECT night FROM retention.runs")).scalars()) == [tonight()]
    started = run_types(connection)
    assert [row["notification_type"] for row in started] == ["email", "letter", "sms"]
    assert {(row["night"], row["fanned_out_at"]) for row in started} == {(tonight(), None)}


def test_beats_that_begin_a_night_at_the_same_moment_wait_for_each_other_and_one_gets_it(app, connection):
    with background(app) as start:
        with app.extensions["db.engine"].begin() as first:
            runs_dao.start_run(first, tonight(), clock.now())
            assert runs_dao.begin_types(first, tonight(), NOTIFICATION_TYPES, clock.now()) == 3
            second = start(lambda: nightly.start_run(once=True))
            wait_until(lambda: waiting_for_locks(connection) == 1)
        assert second.result(timeout=10) is None
    assert nightly.start_run(once=True) is None
    assert nightly.start_run() == tonight(), "a person may start it again"


def test_a_beat_that_dies_before_its_night_is_committed_leaves_it_to_the_other(app, connection):
    with background(app) as start:
        with app.extensions["db.engine"].connect() as first:
            runs_dao.start_run(first, tonight(), clock.now())
            runs_dao.begin_types(first, tonight(), NOTIFICATION_TYPES, clock.now())
            second = start(lambda: nightly.start_run(once=True))
            wait_until(lambda: waiting_for_locks(connection) == 1)
            first.rollback()
        assert second.result(timeout=10) == tonight()
    assert len(run_types(connection)) == 3


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-07-14T22:59:59Z", date(2026, 7, 14)),
        ("2026-07-14T23:00:00Z", date(2026, 7, 15)),
        ("2026-01-14T23:59:59Z", date(2026, 1, 14)),
    ],
)
def test_a_night_is_the_local_date_on_which_it_starts(app, connection, now, night):
    with freeze_time(now):
        assert nightly.start_run() == night


def test_a_night_that_begins_clears_records_that_are_too_old_and_keeps_the_others(app, connection):
    kept = timedelta(days=tools().settings.records_kept_days)
    for night_ago in (kept + timedelta(days=2), kept - timedelta(days=2)):
        with freeze_time(datetime.now(UTC) - night_ago):
            service = create_service(connection)
            create_notification(connection, service)
            wakes = nightly.fan_out("email")
        do_all(wakes)
        connection.execute(text("UPDATE retention.steps SET started_at = night WHERE night < :n"), {"n": tonight()})
    nights = set(connection.execute(text("SELECT night FROM retention.chains")).scalars())
    assert len(nights) == 2
    heartbeat.fold()
    nightly.start_run()
    for table in ("chains", "steps"):
        assert set(connection.execute(text(f"SELECT night FROM retention.{table}")).scalars()) == {max(nights)}


def test_only_services_with_something_past_their_cut_off_are_found(app, connection):
    overdue, short, new, other_type, only_history, _has_nothing = (create_service(connection) for _ in range(6))
    set_retention(connection, short, "email", 3)
    create_notification(connection, overdue, created_at=days_ago(9))
    create_notification(connection, short, created_at=days_ago(5))
    create_notification(connection, new, created_at=days_ago(5))
    create_notification(connection, other_type, "sms")
    create_history(connection, service_id=only_history)
    nightly.fan_out("email")
    assert {row["days"]: row["cutoff"] for row in chains(connection)} == {7: cutoff_tonight(7), 3: cutoff_tonight(3)}
    (fanned_out,) = run_types(connection)
    assert (fanned_out["notification_type"], fanned_out["services"]) == ("email", 2)
    assert fanned_out["fanned_out_at"] is not None


def test_a_service_that_has_only_test_notifications_gets_its_chain_and_loses_them(app, connection):
    create_notification(connection, create_service(connection), key_type="test")
    do_all(nightly.fan_out("email"))
    assert (live(connection), history(connection)) == (set(), set())


def test_large_services_begin_one_after_the_other_over_the_spread(app, connection):
    for _ in range(6):
        create_large_service(connection)
    before = clock.now()
    wakes = nightly.fan_out("email")
    due = sorted({row["due_at"] for row in chains(connection)})
    assert before <= due[0] <= clock.now()
    assert [later - earlier for earlier, later in pairwise(due)] == [timedelta(seconds=50)] * 5
    # Only what is due is sent; the dispatcher sends the others when their time comes.
    by_id = {row["id"]: row for row in chains(connection)}
    assert {by_id[wake.chain]["due_at"] for wake in wakes} == set(due[:1])
    assert {row["due_at"] for row in by_id.values() if row["sent_at"] is not None} == set(due[:1])
    with freeze_time(due[3]):
        woken, _ = nightly.dispatch()
    assert {by_id[wake.chain]["due_at"] for wake in woken} >= set(due[1:4])
    assert not {by_id[wake.chain]["due_at"] for wake in woken} & set(due[4:])


def test_a_message_that_comes_before_its_time_does_nothing(app, connection):
    for _ in range(2):
        create_large_service(connection)
    ids = live(connection)
    nightly.fan_out("email")
    late = max(chains(connection), key=lambda row: row["due_at"])
    assert run_step(late["id"], late["step"], None) == []
    assert live(connection) == ids


def test_a_fan_out_that_is_executed_the_next_morning_keeps_its_nights_cut_offs(app, connection):
    service = create_service(connection)
    last_nights, this_nights = datetime(2026, 3, 22, tzinfo=UTC), datetime(2026, 3, 22, 23, tzinfo=UTC)
    overdue = create_notification(connection, service, created_at=last_nights - timedelta(seconds=1))
    not_yet = create_notification(connection, service, created_at=this_nights - timedelta(seconds=1))
    with freeze_time(NIGHT):
        night = nightly.start_run()
    with freeze_time(NEXT_MORNING):
        wakes = nightly.fan_out("email", night)
        assert [wake.cutoff for wake in wakes] == [last_nights]
        do_all(wakes)
    assert {row["night"] for row in chains(connection)} == {night}
    assert (live(connection), history(connection)) == ({not_yet}, {overdue})


def test_a_chain_that_is_done_the_next_morning_keeps_its_nights_cut_off(app, connection):
    service = create_service(connection)
    not_yet = create_notification(connection, service, created_at=datetime(2026, 3, 22, 12, tzinfo=UTC))
    create_notification(connection, service, created_at=datetime(2026, 3, 1, tzinfo=UTC))
    with freeze_time(NIGHT):
        wakes = nightly.fan_out("email")
    with freeze_time(NEXT_MORNING):
        do_all(wakes)
    assert live(connection) == {not_yet}


def test_a_large_service_has_chains_of_its_own_in_slices_and_a_small_one_shares_one(app, connection):
    large, small = create_service(connection), create_service(connection)
    ages = sorted(days_ago(20 + n) for n in range(12))
    ids = {create_notification(connection, large, created_at=created_at) for created_at in ages}
    ids |= {create_notification(connection, small) for _ in range(2)}
    nightly.fan_out("email")
    found = [(row["service_id"], row["slice_from"], row["slice_before"]) for row in chains(connection)]
    assert found == [
        (None, None, None),
        (large, None, ages[4]),
        (large, ages[4], ages[8]),
        (large, ages[8], None),
    ]
    make_due(connection)
    do_all(nightly.dispatch()[0] + wakes_of_all(connection))
    assert history(connection) == ids


def wakes_of_all(connection):
    """What the dispatcher would send later, too."""
    connection.execute(text("UPDATE retention.chains SET sent_at = NULL"))
    return nightly.dispatch()[0]


def test_a_service_too_slow_to_slice_is_not_left_out(app, connection, monkeypatch):
    service = create_service(connection)
    for _ in range(12):
        create_notification(connection, service)
    # As a statement time-out would: the statement is refused by the database.
    monkeypatch.setattr(counting_dao, "SLICE_BOUND", "SELECT pg_catalog.no_such_function() WHERE {overdue}")
    with capture_logs() as said:
        nightly.fan_out("email")
    assert [(row["slice_from"], row["slice_before"]) for row in chains(connection)] == [(None, None)]
    assert "slicing-failed" in {event["event"] for event in said}


@pytest.mark.parametrize("days", [0, -1])
def test_a_refused_retention_is_reported_untouched_and_does_not_stop_the_others(app, connection, days):
    refused, ordinary = create_service(connection, email=days), create_service(connection)
    kept, moves = create_notification(connection, refused), create_notification(connection, ordinary)
    with capture_logs() as said:
        do_all(nightly.fan_out("email"))
    assert (live(connection), history(connection)) == ({kept}, {moves})
    reports = [event for event in said if event["event"] == "retention-refused"]
    assert [(one["service_id"], one["log_level"]) for one in reports] == [(str(refused), "error")]


def test_a_service_whose_chains_cannot_be_opened_does_not_stop_the_others_and_is_tried_again(app, connection):
    services = {create_large_service(connection) for _ in range(3)}
    rows = live(connection)
    unlucky = min(services)
    body = f"IF NEW.service_id = '{unlucky}' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    night = nightly.start_run()
    with trigger(connection, "BEFORE INSERT ON retention.chains", body), capture_logs() as said:
        nightly.fan_out("email", night)
    assert {row["service_id"] for row in chains(connection)} == services - {unlucky}
    assert [event["service_id"] for event in said if event["event"] == "chains-not-opened"] == [str(unlucky)]
    connection.execute(text("UPDATE retention.run_types SET sent_at = sent_at - interval '1 hour'"))
    assert (night, "email") in nightly.dispatch()[1]
    nightly.fan_out("email", night)
    assert {row["service_id"] for row in chains(connection)} == services
    make_due(connection)
    do_all(wakes_of_all(connection))
    assert history(connection) == rows


def test_chains_of_many_services_that_cannot_be_opened_are_tried_again(app, connection):
    row = create_notification(connection, create_service(connection))
    night = nightly.start_run()
    with trigger(connection, "BEFORE INSERT ON retention.chains", "RAISE EXCEPTION 'no';"), capture_logs() as said:
        assert nightly.fan_out("email", night) == []
    assert [event["service_id"] for event in said if event["event"] == "chains-not-opened"] == [None]
    connection.execute(text("UPDATE retention.run_types SET sent_at = sent_at - interval '1 hour'"))
    assert (night, "email") in nightly.dispatch()[1]
    do_all(nightly.fan_out("email", night))
    assert history(connection) == {row}


def test_rows_without_a_service_are_reported_and_untouched(app, connection):
    kept = {create_notification(connection, None), create_notification(connection, None, created_at=days_ago(5))}
    kept.add(create_notification(connection, None, "sms"))
    with capture_logs() as said:
        do_all(nightly.fan_out("email"))
    assert live(connection) == kept
    assert [row["rows_without_service"] for row in run_types(connection)] == [1]
    (report,) = [event for event in said if event["event"] == "rows-without-service"]
    assert (report["notification_type"], report["count"]) == ("email", 1)


def test_a_fan_out_that_is_delivered_again_leaves_chains_that_are_under_way_as_they_are(app, connection):
    service = create_service(connection)
    ids = {create_notification(connection, service, created_at=days_ago(40 - n)) for n in range(12)}
    wakes = nightly.fan_out("email")
    run_step(wakes[0].chain, wakes[0].step, None)
    before = [dict(row) for row in chains(connection)]
    assert nightly.fan_out("email") == []
    assert [dict(row) for row in chains(connection)] == before
    make_due(connection)
    do_all(wakes_of_all(connection))
    assert history(connection) == ids


def test_a_fan_out_that_is_delivered_again_after_the_end_looks_again(app, connection):
    service = create_service(connection)
    first = create_notification(connection, service)
    create_notification(connection, service, key_type="test")
    do_all(nightly.fan_out("email"))
    second = create_notification(connection, service)
    do_all(nightly.fan_out("email"))
    assert history(connection) == {first, second}
    assert {row["state"] for row in chains(connection)} == {"ended"}
    assert [row["stage"] for row in chains(connection)] == ["real", "test"]
