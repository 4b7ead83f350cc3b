"""Holds and pauses: a hold that was confirmed to an operator is never overtaken, and chains go on once it is lifted.

Promise 7, and the design's first row of what comes next. Seen to fail: the shared lock of the step (the hold was
confirmed while the step still ran); the look for a hold; the wake of rested chains, for holds and for pauses.
"""

from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.dao.holds_dao import PIPELINE
from app.retention import move_notifications_to_notification_history, nightly, operations
from app.retention.cutoffs import UnknownService
from tests.chain_steps import chain, do, do_all, of_stage, open_chains
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.factories import create_notification, create_service, days_ago, history, live, steps
from tests.integration.test_leases import Gate


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
        assert operations.pause("an incident", "someone")
    else:
        assert operations.hold(service, "a dispute", "someone")
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
    assert [operations.hold(service, reason, "someone") for reason in ("a dispute", "another")] == [True, False]
    assert connection.execute(text("SELECT reason FROM retention.holds")).scalar() == "a dispute"


def test_a_hold_on_no_service_is_refused(app, connection):
    with pytest.raises(UnknownService, match="there is no service"):
        operations.hold(uuid4(), "a dispute", "someone")
    assert connection.execute(text("SELECT count(*) FROM retention.holds")).scalar() == 0


def test_a_hold_waits_for_the_step_that_runs_and_no_later_step_overtakes_it(app, connection, monkeypatch):
    service = create_service(connection)
    emails(connection, service)
    text_message = create_notification(connection, service, "sms")
    (wake,), (other_type,) = open_chains(service), open_chains(service, "sms")
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(do, wake)
        assert gate.reached.wait(20)
        hold = start(operations.hold, service, "a dispute", "someone")
        wait_until(lambda: waiting_for_locks(connection) == 1)
        later = start(do, other_type)
        wait_until(lambda: waiting_for_locks(connection) == 2)
        assert not hold.done()
        gate.opened.set()
        assert running.result(20) == [replace(wake, step=wake.step + 1)]
        assert hold.result(20) is True
        assert later.result(20) == []
    assert len(history(connection)) == 4
    assert text_message in live(connection)
    assert chain(connection, other_type)["reason"] == "on-hold"
    assert do(replace(wake, step=wake.step + 1)) == []
    assert (len(history(connection)), chain(connection, wake)["reason"]) == (4, "on-hold")


def test_a_step_of_another_service_does_not_keep_a_hold_waiting(app, connection, monkeypatch):
    service, other = create_service(connection), create_service(connection)
    emails(connection, other)
    (wake,) = open_chains(other)
    gate = Gate(monkeypatch)
    with background(app) as start:
        running = start(do, wake)
        assert gate.reached.wait(20)
        try:
            assert operations.hold(service, "a dispute", "someone") is True
        finally:
            gate.opened.set()
        assert len(running.result(20)) == 1
