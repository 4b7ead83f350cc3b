"""Holds and pauses: a hold that was confirmed to an operator is never overtaken, and chains go on once it is lifted.

Promise 11, and the design's first row of what comes next. Seen to fail: the lock of the step's own row (the hold was
confirmed while the step still ran); the look for a hold; the wake of rested chains, for holds and for pauses; a
stranger's advisory lock, which steps and holds waited for.
"""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app import clock
from app.accounts.requests import mark_for_deletion
from app.dao import turns_dao
from app.dao.holds_dao import PIPELINE
from app.db import db
from app.engine import stops
from app.retention import audit, heartbeat, move_notifications_to_notification_history, nightly, operations
from app.retention.cutoffs import UnknownService
from app.retention.operations import Placed
from tests.chain_steps import chain, do, do_all, of_stage, open_chains
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.factories import create_notification, create_service, days_ago, history, live, steps
from tests.integration.accounts.owned import create_user, make_manager
from tests.integration.test_leases import Gate, take_lease

CONFIRMED = Placed(is_new=True)


@pytest.fixture
def settings_override():
    return {"MESSAGES_PER_STEP": "4"}


def emails(connection, service):
    return {create_notification(connection, service, created_at=days_ago(40 - n)) for n in range(6)}


@pytest.mark.parametrize(("scope", "reason"), [("service", "on-hold"), (PIPELINE, "paused")])
def test_a_chain_rests_in_the_middle_and_goes_on_when_the_reason_is_lifted(app, connection, scope, reason):
    service, other = create_service(connection), create_service(connection)
    ids, other_ids = emails(connection, service), emails(connection, other)
    (wake,), (other_wake,) = open_chains(service), open_chains(other)
    (second,) = do(wake)
    if scope == PIPELINE:
        assert operations.pause("an incident", "someone") == CONFIRMED
    else:
        assert operations.hold(service, "a dispute", "someone") == CONFIRMED
    moved = history(connection)
    assert do(second) == []
    row = chain(connection, wake)
    assert (row["state"], row["reason"]) == ("resting", reason)
    do_all([other_wake])
    assert history(connection) == moved | (set() if scope == PIPELINE else other_ids)
    assert of_stage(connection, "test") == [] or scope != PIPELINE
    lifted, woken = operations.lift(PIPELINE if scope == PIPELINE else str(service), "someone")
    assert (lifted, woken) == (True, 2 if scope == PIPELINE else 1)
    wakes, _ = nightly.dispatch()
    assert {one.chain for one in wakes} >= {wake.chain}
    do_all(wakes)
    assert history(connection) == ids | other_ids


def test_a_chain_rests_while_either_reason_stands(app, connection):
    service = create_service(connection)
    ids = emails(connection, service)
    (wake,) = open_chains(service)
    operations.hold(service, "a dispute", "someone")
    operations.pause("an incident", "someone")
    do(wake)
    assert operations.lift(PIPELINE, "someone") == (True, 1)
    (again,) = nightly.dispatch()[0]
    assert do(again) == []
    assert (chain(connection, wake)["reason"], live(connection)) == ("on-hold", ids)
    assert operations.lift(PIPELINE, "someone") == (False, 0)
    assert operations.lift(str(service), "someone") == (True, 1)


def test_a_chain_that_went_to_rest_just_after_its_hold_was_lifted_is_woken_by_the_dispatcher(app, connection):
    service = create_service(connection)
    (wake,) = open_chains(service)
    connection.execute(text("UPDATE retention.chains SET state = 'resting', reason = 'on-hold', sent_at = NULL"))
    assert [one.chain for one in nightly.dispatch()[0]] == [wake.chain]
    assert chain(connection, wake)["state"] == "waiting"


def test_a_call_by_hand_heeds_a_hold(app, connection):
    service = create_service(connection)
    ids = emails(connection, service)
    operations.hold(service, "a dispute", "someone")
    assert move_notifications_to_notification_history("email", service, days_ago(0)) == 0
    assert (live(connection), [record["outcome"] for record in steps(connection)]) == (ids, ["on-hold"])


def test_a_second_hold_says_that_there_is_one_and_keeps_the_first(app, connection):
    service = create_service(connection)
    placed = [operations.hold(service, reason, "someone") for reason in ("a dispute", "another")]
    assert placed == [CONFIRMED, Placed(is_new=False)]
    assert connection.execute(text("SELECT reason FROM retention.holds")).scalar() == "a dispute"


def test_a_hold_on_no_service_is_refused(app, connection):
    with pytest.raises(UnknownService, match="there is no service"):
        operations.hold(uuid4(), "a dispute", "someone")
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("scope", ["service", PIPELINE])
def test_a_hold_waits_for_the_step_that_runs_and_no_later_step_waits_or_overtakes_it(
    app, connection, monkeypatch, scope, by_hand
):
    service = create_service(connection)
    emails(connection, service)
    text_message = create_notification(connection, service, "sms")
    (wake,), (other_type,) = open_chains(service), open_chains(service, "sms")
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(by_hand_of, service) if by_hand else start(do, wake)
        assert gate.reached.wait(20)
        placing = start(place, scope, service)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        assert do(other_type) == []
        assert not placing.done()
        gate.opened.set()
        assert running.result(20) == (4 if by_hand else [replace(wake, step=wake.step + 1)])
        assert placing.result(20) == CONFIRMED
    moved = history(connection)
    assert len(moved) == 4
    assert text_message in live(connection)
    assert chain(connection, other_type)["reason"] == ("paused" if scope == PIPELINE else "on-hold")
    assert (do(replace(wake, step=chain(connection, wake)["step"])), by_hand_of(service)) == ([], 0)
    assert history(connection) == moved


def by_hand_of(service):
    return move_notifications_to_notification_history("email", service, days_ago(0), 4)


def place(scope, service, seconds=20):
    if scope == PIPELINE:
        return operations.pause("an incident", "someone", seconds)
    return operations.hold(service, "a dispute", "someone", seconds)


def test_a_hold_that_can_wait_no_longer_stands_and_names_what_still_runs(app, connection, monkeypatch):
    service = create_service(connection)
    emails(connection, service)
    (wake,) = open_chains(service)
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(do, wake)
        assert gate.reached.wait(20)
        try:
            placed = operations.hold(service, "a dispute", "someone", 0.1)
            again = operations.hold(service, "a dispute", "someone", 0.1)
        finally:
            gate.opened.set()
        (second,) = running.result(20)
    assert (placed.is_new, again.is_new) == (True, False)
    assert placed.says() == again.says() == f"; still running: batch {wake.chain}"
    assert do(second) == []
    assert operations.hold(service, "a dispute", "someone") == Placed(is_new=False)


def test_the_lease_of_a_step_that_is_under_way_is_not_taken_even_when_it_has_run_out(app, connection, monkeypatch):
    service = create_service(connection)
    emails(connection, service)
    (wake,) = open_chains(service)
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(do, wake)
        assert gate.reached.wait(20)
        later = clock.now() + timedelta(hours=1)
        assert take_lease(wake, "another", later) is None
        gate.opened.set()
        assert len(running.result(20)) == 1


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_step_whose_snapshot_may_be_older_than_its_lock_does_not_begin(app, connection, level):
    service = create_service(connection)
    engine = app.extensions["db.engine"].execution_options(isolation_level=level.upper())
    with engine.begin() as own:
        if level == "read committed":
            assert stops.stopped(own, stops.turn(turns_dao.BY_HAND), services=[service]) is None
        else:
            with pytest.raises(stops.WrongIsolation):
                stops.stopped(own, stops.turn(turns_dao.BY_HAND), services=[service])


@pytest.mark.parametrize("by_one", [True, False])
def test_holds_are_read_after_the_row_is_locked(app, connection, by_one):
    """What is placed while the work waits for its own row is seen."""
    service = create_service(connection)

    def own(_connection):
        assert operations.hold(service, "a dispute", "someone", 1) == CONFIRMED

    with db.transaction() as step:
        if by_one:
            assert stops.stopped(step, own, services=[service]) == stops.ON_HOLD
        else:
            assert stops.standing(step, own).services == {service}


STRANGERS = text(
    """
    SELECT pg_advisory_lock(hashtextextended(key, 0))
    FROM unnest(ARRAY['retention.hold.' || CAST(:service AS text), 'retention.hold.pipeline', 'retention.hold.anyone',
                      'retention.audit', 'retention.totals', 'accounts.managers.' || CAST(:service AS text)]) AS key
    """
)


def test_what_a_stranger_locks_keeps_nobody_waiting(app, connection):
    service, manager = create_service(connection), create_user(connection)
    for one in (manager, create_user(connection)):
        make_manager(connection, one, service)
    emails(connection, service)
    (wake,) = open_chains(service)
    connection.execute(STRANGERS, {"service": service})
    try:
        assert len(do(wake)) == 1
        assert operations.hold(service, "a dispute", "someone", 1) == CONFIRMED
        assert operations.lift(str(service), "someone") == (True, 0)
        audit.begin("someone")
        heartbeat.fold()
        assert connection.execute(text("SELECT count(*) FROM retention.totals")).scalar()
        with db.transaction() as own:
            assert mark_for_deletion(own, manager, by="operator", by_id=None, now=clock.now())
    finally:
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
    assert chain(connection, wake)["state"] == "waiting"


def test_nothing_is_logged_of_a_hold_that_is_not_there(app, connection):
    with capture_logs() as said:
        assert operations.lift(str(create_service(connection)), "someone") == (False, 0)
    assert said == []


def test_a_step_of_another_service_does_not_keep_a_hold_waiting(app, connection, monkeypatch):
    service, other = create_service(connection), create_service(connection)
    emails(connection, other)
    (wake,) = open_chains(other)
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(do, wake)
        assert gate.reached.wait(20)
        try:
            assert operations.hold(service, "a dispute", "someone") == CONFIRMED
        finally:
            gate.opened.set()
        assert len(running.result(20)) == 1
