"""Letters and their workers: killed at the worst moment, or two at the same service at once.

Each test was seen to fail with its guard taken out:
promise 1 (files before rows): the delete of files moved behind the move of the rows;
promise 2 (one locked choice): SKIP LOCKED, or FOR UPDATE altogether, left out of the choice;
promise 6 (every step can be repeated): the intent not written ahead, or in the step's own transaction, or never taken
away; the lease not checked; letters that an intent covers counted as missing, or an intent covering everything.
"""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text

from app.dao import runs_dao
from app.retention import chains, move_notifications_to_notification_history, nightly
from tests.factories import chains as chain_rows
from tests.factories import create_letter, create_service, days_ago, deferred, history, keys, live, steps
from tests.forkserver import worker_process
from tests.integration.night import dispatch, drain, make_due, states

ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 60
WORKER = """
import sys
from app import create_app
from app.retention import chains
with create_app().app_context():
    chains.run_step(int(sys.argv[1]), int(sys.argv[2]), "the-killed-task")
"""


@pytest.fixture
def settings_override(proxy):
    # A step is repeated with half as many, which must be enough for the rule of a fifth to mean something.
    return {"AWS_ENDPOINT_URL_S3": proxy.url, "LETTERS_PER_STEP": "60", "FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.fixture
def service(connection):
    return create_service(connection)


def letters(connection, s3, service, count):
    return {create_letter(connection, s3, service, days_ago(60, hours=-n)) for n in range(count)}


def missing_files(connection):
    looks = connection.execute(text("SELECT coalesce(sum(missing), 0) FROM retention.letter_looks")).scalar()
    return looks + sum(step["without_file"] for step in steps(connection))


def intents(connection):
    return connection.execute(text("SELECT count(*) FROM retention.intents")).scalar()


def wait_for_rollback(connection):
    """PostgreSQL notices a little later that a killed worker has gone."""
    for _ in range(200):
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        if not connection.execute(text(idle)).scalar():
            return
        time.sleep(0.05)
    pytest.fail("a killed worker's transaction is still open")


@pytest.fixture
def run_a_worker_to_be_killed(proxy, environment, settings, tmp_path):
    """Have a process do the step, and get SIGKILL before its first file goes, or after its last."""

    def run(wake, moment):
        started = []

        def kill():
            started[0].ask_to_stop(signal.SIGKILL)
            started[0].wait(SECONDS_TO_END)

        setattr(proxy, moment, kill)
        variables = {
            **environment,
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "LETTERS_PER_STEP": str(settings.letters_per_step),
        }
        argv = [sys.executable, "-c", WORKER, wake.chain, wake.step]
        started.append(worker_process("worker", argv, log=tmp_path / "worker.log", env=variables, cwd=ROOT))
        assert started[0].wait(SECONDS_TO_END) == -signal.SIGKILL
        setattr(proxy, moment, lambda: None)

    return run


def fail_after_the_files(monkeypatch, wake):
    """A step that ends, without notice, when its files are gone and its commit is still to come."""

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(runs_dao, "finish_intent", fail)
        with pytest.raises(MemoryError):
            chains.run_step(wake.chain, wake.step, "task")


def test_a_worker_killed_between_files_and_move_is_made_good_by_the_next_without_files_counted_as_missing(
    app, connection, s3, service, settings, run_a_worker_to_be_killed
):
    its = letters(connection, s3, service, 25)
    (wake,) = nightly.fan_out("letter")
    run_a_worker_to_be_killed(wake, "after_delete")
    wait_for_rollback(connection)
    assert (live(connection), history(connection)) == (its, set())
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()
    assert chains.run_step(wake.chain, wake.step, "another-task") == []  # the dead one's lease still stands
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (set(), its)
    assert states(connection) == [("real", "ended", None)]
    assert (missing_files(connection), intents(connection)) == (0, 0)


def test_a_worker_killed_before_the_first_file_went_loses_nothing(
    app, connection, s3, service, settings, proxy, run_a_worker_to_be_killed
):
    its = letters(connection, s3, service, 3)
    (wake,) = nightly.fan_out("letter")
    # What the dead one had sent must not go through after all.
    proxy.refused_keys = dict.fromkeys(keys(s3, settings.s3_bucket_letters_pdf), "InternalError")
    run_a_worker_to_be_killed(wake, "before_delete")
    proxy.refused_keys = {}
    wait_for_rollback(connection)
    assert (live(connection), history(connection), deferred(connection)) == (its, set(), {})
    assert len(keys(s3, settings.s3_bucket_letters_pdf)) == 3
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (set(), its)
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()


def test_a_redelivered_message_of_a_killed_task_does_its_step_at_once(
    app, connection, s3, service, run_a_worker_to_be_killed
):
    its = letters(connection, s3, service, 3)
    (wake,) = nightly.fan_out("letter")
    run_a_worker_to_be_killed(wake, "after_delete")
    wait_for_rollback(connection)
    drain(chains.run_step(wake.chain, wake.step, "the-killed-task"))
    assert (live(connection), history(connection)) == (set(), its)


def test_a_step_that_fails_after_its_files_are_gone_keeps_every_row_and_is_repeated(
    app, connection, s3, service, settings, monkeypatch
):
    its = letters(connection, s3, service, 25)
    (wake,) = nightly.fan_out("letter")
    fail_after_the_files(monkeypatch, wake)
    assert (live(connection), history(connection)) == (its, set())
    assert (keys(s3, settings.s3_bucket_letters_pdf), intents(connection)) == (set(), 1)
    assert [chain["last_error"] for chain in chain_rows(connection)] == ["MemoryError"]
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (set(), its)
    assert (missing_files(connection), intents(connection)) == (0, 0)


def test_the_commit_of_a_step_takes_its_intent_away(app, connection, s3, service, proxy):
    its = letters(connection, s3, service, 3)
    seen = []
    proxy.before_delete = lambda: seen.append(intents(connection))
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 3
    assert (seen, intents(connection), history(connection)) == ([1], 0, its)


def test_an_intent_does_not_excuse_letters_outside_its_range(app, connection, s3, service, settings, monkeypatch):
    its = letters(connection, s3, service, 3)
    (wake,) = nightly.fan_out("letter")
    fail_after_the_files(monkeypatch, wake)
    never_there = {create_letter(connection, s3, service, days_ago(20, hours=n), file=False) for n in range(30)}
    make_due(connection)
    dispatch()
    assert (live(connection), history(connection)) == (its | never_there, set())
    assert states(connection) == [("real", "resting", "missing-files")]


def test_two_tasks_for_one_service_move_each_row_once_and_ask_for_each_file_once(
    app, connection, s3, service, settings, proxy
):
    """Both look for the same letters; whoever locks them first deletes, and the other neither waits nor deletes."""
    its = letters(connection, s3, service, 40)
    names = keys(s3, settings.s3_bucket_letters_pdf)
    first_deletes, second_is_done = Event(), Event()

    def wait_for_the_second():
        if not first_deletes.is_set():
            first_deletes.set()
            assert second_is_done.wait(20), "the second task waited for the first one"

    proxy.before_delete = wait_for_the_second

    def task(limit):
        with app.app_context():
            return move_notifications_to_notification_history("letter", service, days_ago(0), limit=limit)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(task, 20)
        assert first_deletes.wait(20)
        second = task(25)
        second_is_done.set()
        assert (first.result(), second) == (20, 5)
    assert task(40) == 15
    assert (live(connection), history(connection)) == (set(), its)
    assert sorted(proxy.keys_asked) == sorted(names)
    assert (keys(s3, settings.s3_bucket_letters_pdf), missing_files(connection)) == (set(), 0)


def test_one_message_delivered_twice_does_its_step_once(app, connection, s3, service, settings, proxy):
    its = letters(connection, s3, service, 10)
    names = keys(s3, settings.s3_bucket_letters_pdf)
    (wake,) = nightly.fan_out("letter")
    connection.execute(text("UPDATE retention.chains SET rows_per_step = 10"))  # a full batch: there is a successor
    proxy.before_delete = lambda: time.sleep(0.5)

    def deliver(task_id):
        with app.app_context():
            return chains.run_step(wake.chain, wake.step, task_id)

    with ThreadPoolExecutor(2) as pool:
        successors = list(pool.map(deliver, ["one", "other"]))
    assert sorted(map(len, successors)) == [0, 1]
    assert deliver("late") == []
    assert (history(connection), sorted(proxy.keys_asked)) == (its, sorted(names))
    assert [step["moved"] for step in steps(connection)] == [10]
