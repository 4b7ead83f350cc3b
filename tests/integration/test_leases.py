"""Leases: one worker at a time does a chain's step, and whatever happens to it, the chain goes on.

Which guard was taken out, to see the tests of a promise fail:
3, 6  the token in the advance (the worker that had lost its lease committed); the step number in the lease; the
      lease's own condition (both deliveries did the step); the holder's right to its own lease; the expiry
6     giving the lease back after an error
7     the due time from the second attempt on; the halving of the batch; the pause after an error
9     the error's class alone on the chain's row (its words quoted the row)
"""

import threading
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app import clock
from app.dao.chains_dao import CHAINS
from app.db import db
from app.engine import leases
from app.engine.leases import BackOff, LeaseLost
from app.retention import messages
from app.retention import steps as take_steps
from app.retention.steps import StepFailed
from tests.chain_steps import chain, change, do, do_all, open_chains
from tests.concurrency import background, trigger, wait_until
from tests.factories import EMAIL_ADDRESS, create_notification, create_service, days_ago, history, live, steps

LEASE = ("lease_token", "lease_holder", "lease_until")


@pytest.fixture
def settings_override():
    return {"MESSAGES_PER_STEP": "8"}


def twenty_emails(connection, service):
    return {create_notification(connection, service, created_at=days_ago(40 - n)) for n in range(20)}


def take_lease(wake, holder, now, seconds=60):
    """As a worker would that is killed right after."""
    with db.transaction() as own:
        return leases.acquire(
            own, CHAINS, wake.chain, step=wake.step, holder=holder, now=now, seconds=seconds, retry=BackOff(30)
        )


class Gate:
    """Stops `messages.remove` after its work is done, before the step decides and commits."""

    def __init__(self, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        self.remove = messages.remove
        monkeypatch.setattr(messages, "remove", self)

    def __call__(self, *arguments):
        report = self.remove(*arguments)
        self.reached.set()
        assert self.opened.wait(20)
        return report


def test_a_step_gives_its_lease_back_and_counts(app, connection):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    do(wake, "task-1")
    row = chain(connection, wake)
    assert [row[name] for name in LEASE] == [None, None, None]
    assert (row["step"], row["attempts"], row["last_error"]) == (wake.step + 1, 0, None)
    assert [record["task_id"] for record in steps(connection)] == ["task-1"]


@pytest.mark.parametrize("off", [-1, 1, 100])
def test_a_message_for_another_step_number_ends_at_once(app, connection, off):
    service = create_service(connection)
    ids = twenty_emails(connection, service)
    (wake,) = open_chains(service)
    before = dict(chain(connection, wake))
    assert do(replace(wake, step=wake.step + off)) == []
    assert (live(connection), steps(connection), dict(chain(connection, wake))) == (ids, [], before)


def test_a_message_that_is_delivered_again_makes_no_second_successor(app, connection):
    service = create_service(connection)
    ids = twenty_emails(connection, service)
    (wake,) = open_chains(service)
    (second,) = do(wake, "task-1")
    assert do(wake, "task-1") == []
    assert do(wake, "task-2") == []
    assert len(history(connection)) == 8
    assert chain(connection, wake)["step"] == second.step
    do_all([second])
    assert history(connection) == ids


@pytest.mark.parametrize("state", ["ended", "resting"])
def test_a_message_for_a_chain_that_rests_or_has_ended_does_nothing(app, connection, state):
    service = create_service(connection)
    ids = twenty_emails(connection, service)
    (wake,) = open_chains(service)
    change(connection, wake, "state = :state", state=state)
    assert do(wake) == []
    assert live(connection) == ids


def test_two_deliveries_at_the_same_time_make_one_step_and_one_successor(app, connection, monkeypatch):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    gate = Gate(monkeypatch)
    with background(app) as start:
        first = start(do, wake, "task-1")
        assert gate.reached.wait(20)
        assert start(do, wake, "task-2").result(20) == []
        gate.opened.set()
        assert first.result(20) == [replace(wake, step=wake.step + 1)]
    assert (len(history(connection)), len(live(connection))) == (8, 12)
    assert [record["task_id"] for record in steps(connection)] == ["task-1"]


def test_a_race_for_the_lease_has_one_winner(app, connection):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    all_there = threading.Barrier(4)

    def race(task_id):
        all_there.wait(20)
        return do(wake, task_id)

    with background(app) as start:
        runners = [start(race, f"task-{number}") for number in range(4)]
        successors = [wake for runner in runners for wake in runner.result(20)]
    assert successors == [replace(wake, step=wake.step + 1)]
    assert len(history(connection)) == 8


def between_lease_and_step(monkeypatch, happens):
    """What happens while a worker that has taken its lease stands still."""
    the_step = take_steps.step_transaction

    def after_it_happened(settings):
        happens()
        return the_step(settings)

    monkeypatch.setattr(take_steps, "step_transaction", after_it_happened)


def test_a_worker_that_outlived_its_lease_changes_nothing(app, connection, monkeypatch):
    service = create_service(connection)
    ids = twenty_emails(connection, service)
    (wake,) = open_chains(service)

    def taken_over():
        change(connection, wake, "lease_until = now() - interval '1 second'")
        assert take_lease(wake, "task-2", clock.now()) is not None

    between_lease_and_step(monkeypatch, taken_over)
    assert do(wake, "task-1") == []
    assert (live(connection), history(connection), steps(connection)) == (ids, set(), [])
    row = chain(connection, wake)
    assert (row["step"], row["lease_holder"]) == (wake.step, "task-2")


def test_a_worker_whose_step_was_done_by_another_changes_nothing(app, connection, monkeypatch):
    service = create_service(connection)
    ids = twenty_emails(connection, service)
    (wake,) = open_chains(service)
    done = "step = step + 1, lease_token = NULL, lease_holder = NULL, lease_until = NULL"
    between_lease_and_step(monkeypatch, lambda: change(connection, wake, done))
    assert do(wake, "task-1") == []
    assert (live(connection), history(connection), steps(connection)) == (ids, set(), [])
    assert chain(connection, wake)["step"] == wake.step + 1


def test_a_lease_that_has_run_out_lets_another_worker_take_the_step(app, connection):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    take_lease(wake, "killed", clock.now())
    assert do(wake, "another") == []
    change(connection, wake, "lease_until = now() - interval '1 second'")
    assert len(do(wake, "another")) == 1
    assert chain(connection, wake)["step"] == wake.step + 1


def test_a_message_handed_on_under_the_same_task_id_takes_its_lease_at_once(app, connection):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    take_lease(wake, "task-1", clock.now())
    assert len(do(wake, "task-1")) == 1
    assert chain(connection, wake)["step"] == wake.step + 1


@pytest.mark.parametrize(
    "write",
    [
        leases.lock,
        lambda own, lease: leases.change(own, lease, setbacks=7),
        lambda own, lease: leases.give_back(own, lease, due_at=days_ago(1), setbacks=7),
    ],
    ids=["lock", "change", "give back"],
)
def test_who_has_lost_the_lease_writes_nothing(app, connection, write):
    (wake,) = open_chains(create_service(connection))
    lost, _ = take_lease(wake, "task-1", clock.now())
    kept, _ = take_lease(wake, "task-2", clock.now() + timedelta(seconds=61))
    before = chain(connection, wake)
    with pytest.raises(LeaseLost), db.transaction() as own:
        write(own, lost)
    assert chain(connection, wake) == before
    with db.transaction() as own:
        write(own, kept)


def test_every_attempt_after_the_first_puts_the_next_off_ever_longer(app, connection):
    service = create_service(connection)
    (wake,) = open_chains(service)
    now = chain(connection, wake)["due_at"]
    pauses = []
    for attempt in range(1, 6):
        lease, _ = take_lease(wake, "task-1", now)
        assert lease.attempts == attempt
        due_at = chain(connection, wake)["due_at"]
        pauses.append((due_at - now).total_seconds())
        if pauses[-1]:
            assert take_lease(wake, "task-1", due_at - timedelta(microseconds=1)) is None
        now = due_at
    longest = [0, 30, 60, 120, 240]
    assert all(most * 0.75 <= pause <= most for pause, most in zip(pauses, longest, strict=True)), pauses


@pytest.mark.parametrize(("attempts_before", "moved"), [(0, 8), (1, 4), (2, 2), (3, 1), (4, 1), (40, 1)])
def test_a_step_that_killed_its_worker_is_tried_again_with_ever_fewer_rows(app, connection, attempts_before, moved):
    service = create_service(connection)
    twenty_emails(connection, service)
    (wake,) = open_chains(service)
    change(connection, wake, "attempts = :attempts", attempts=attempts_before)
    assert len(do(wake)) == 1
    assert len(history(connection)) == moved
    row = chain(connection, wake)
    assert (row["attempts"], row["rows_per_step"]) == (0, min(8, moved + max(1, moved // 4)))


# Not about a row: the step fails as a whole.
REFUSE = "RAISE EXCEPTION 'no room for row % of %', NEW.id, NEW.reference USING ERRCODE = '53100';"


def test_a_step_that_fails_gives_its_lease_back_and_is_due_later(app, connection):
    service = create_service(connection)
    email = create_notification(connection, service, reference="private reference")
    (wake,) = open_chains(service)
    for attempt in (1, 2, 3):
        change(connection, wake, "due_at = now() - interval '1 second'")
        with (
            capture_logs() as said,
            trigger(connection, "BEFORE INSERT ON notification_history", REFUSE),
            pytest.raises(StepFailed) as failure,
        ):
            do(wake)
        row = chain(connection, wake)
        assert [row[name] for name in LEASE] == [None, None, None]
        assert (row["state"], row["step"], row["attempts"]) == ("waiting", wake.step, attempt)
        assert (row["last_error"], row["sent_at"]) == ("StepFailed: DiskFull 53100 (in_the_way)", None)
        pause = (row["due_at"] - clock.now()).total_seconds()
        assert 2 ** (attempt - 1) * 0.5 < pause <= 2 ** (attempt - 1)
        words = "".join(traceback.format_exception(failure.value)) + str(said) + str(dict(row))
        assert "private" not in words
        assert str(email) not in words
        assert EMAIL_ADDRESS not in words
        assert [event["event"] for event in said] == ["step-failed"]
    assert (live(connection), history(connection), steps(connection)) == ({email}, set(), [])
    change(connection, wake, "due_at = now() - interval '1 second'")
    assert len(do(wake)) == 1
    row = chain(connection, wake)
    assert (row["last_error"], row["attempts"], history(connection)) == (None, 0, {email})


def test_the_failure_of_one_service_does_not_stop_the_others(app, connection):
    services = [create_service(connection) for _ in range(3)]
    rows = {service: create_notification(connection, service) for service in services}
    wakes = [wake for service in services for wake in open_chains(service)]
    body = f"IF NEW.service_id = '{services[0]}' THEN {REFUSE} END IF; RETURN NEW;"
    with trigger(connection, "BEFORE INSERT ON notification_history", body):
        for wake in wakes:
            try:
                do_all([wake])
            except StepFailed:
                assert wake.service_id == services[0]
        assert (live(connection), history(connection)) == ({rows[services[0]]}, {rows[one] for one in services[1:]})
        assert [chain(connection, wake)["state"] for wake in wakes] == ["waiting", "ended", "ended"]


def test_an_error_that_is_not_the_databases_is_handled_the_same(app, connection, monkeypatch):
    service = create_service(connection)
    email = create_notification(connection, service)
    (wake,) = open_chains(service)

    def remove(*_arguments):
        raise MemoryError(EMAIL_ADDRESS)

    with monkeypatch.context() as patch:
        patch.setattr(messages, "remove", remove)
        with pytest.raises(MemoryError):
            do(wake)
    row = chain(connection, wake)
    assert (row["last_error"], row["lease_token"], live(connection)) == ("MemoryError", None, {email})
    wait_until(lambda: clock.now() > row["due_at"])
    assert do(wake) == []
    assert connection.execute(text("SELECT count(*) FROM notification_history")).scalar() == 1
