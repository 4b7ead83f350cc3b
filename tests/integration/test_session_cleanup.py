"""Dead sessions go, living ones stay, and any number of workers share the work.

Seen to fail: `<=` for `<` in each rule; the user's sessions counted among the anonymous ones; no SKIP LOCKED; the
newest first; `is_more` always false; the setting that switches it off not looked at; the worker's clock alone looked
at; a batch that ends with the first session that is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from traceback import format_exception
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import text

from app.accounts import session_cleanup
from app.celery import celery, session_tasks
from tests.concurrency import background, trigger, waiting_for_locks
from tests.session_rows import DAY, HOUR, NOW, create_session, create_sessions, create_user, held, session_ids

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
Command = Callable[..., Result]


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"SESSIONS_PER_STEP": "4"}


@pytest.fixture(autouse=True)
def no_message_stays(app: Flask) -> Iterator[None]:
    yield
    celery.control.purge()


@pytest.fixture
def flask(app: Flask) -> Command:
    """Runs a `flask sessions` command."""
    runner = app.test_cli_runner()
    return lambda *arguments, **more: runner.invoke(args=["sessions", *arguments], **more)


@pytest.fixture
def messages(app: Flask) -> Callable[[], list[Any]]:
    """Takes the messages out of the queue: task, and named arguments."""

    def take() -> list[Any]:
        taken = []
        with celery.connection_for_read() as connection:
            queue = connection.SimpleQueue(celery.amqp.queues[app.extensions["settings"].queue_accounts])
            with suppress(queue.Empty):
                while True:
                    message = queue.get_nowait()
                    message.ack()
                    taken.append((message.headers["task"], message.payload[1]))
            queue.close()
        return taken

    return take


@pytest.mark.parametrize(
    ("expires_at", "kept"),
    [
        (NOW + SECOND, True),
        (NOW + MICROSECOND, True),
        (NOW, True),
        (NOW - MICROSECOND, False),
        (NOW - SECOND, False),
        (NOW - 30 * DAY, False),
    ],
)
@pytest.mark.parametrize("of_a_user", [True, False])
def test_a_session_goes_once_its_time_is_past(connection, of_a_user, expires_at, kept):
    user_id = create_user(connection) if of_a_user else None
    session = create_session(connection, user_id, created_at=NOW - HOUR, expires_at=expires_at)
    done = session_cleanup.step(NOW, 10)
    assert session_ids(connection) == ({session} if kept else set())
    assert (done.expired, done.anonymous) == (0 if kept else 1, 0)


@pytest.mark.parametrize(
    ("created_at", "kept"),
    [
        (NOW - HOUR, True),
        (NOW - DAY + SECOND, True),
        (NOW - DAY, True),
        (NOW - DAY - MICROSECOND, False),
        (NOW - DAY - SECOND, False),
    ],
)
def test_a_session_without_a_user_is_kept_for_a_day_and_one_of_a_user_until_it_expires(connection, created_at, kept):
    of_nobody = create_session(connection, created_at=created_at, expires_at=NOW + 30 * DAY)
    of_a_user = create_session(connection, create_user(connection), created_at=created_at, expires_at=NOW + 30 * DAY)
    done = session_cleanup.step(NOW, 10)
    assert session_ids(connection) == {of_a_user} | ({of_nobody} if kept else set())
    assert (done.expired, done.anonymous) == (0, 0 if kept else 1)


def test_the_oldest_go_first_and_no_more_than_a_batch(connection):
    ages = [5, 3, 9, 1]
    expired = {age: create_session(connection, expires_at=NOW - age * HOUR) for age in ages}
    anonymous = {
        age: create_session(connection, created_at=NOW - DAY - age * HOUR, expires_at=NOW + DAY) for age in ages
    }
    first = session_cleanup.step(NOW, 3)
    assert (first.expired, first.anonymous, first.is_more) == (3, 0, True)
    assert session_ids(connection) == {expired[1], *anonymous.values()}
    second = session_cleanup.step(NOW, 3, first.expired_from, first.anonymous_from)
    assert (second.expired, second.anonymous, second.is_more) == (1, 2, True)
    assert session_ids(connection) == {anonymous[3], anonymous[1]}
    third = session_cleanup.step(NOW, 3, second.expired_from, second.anonymous_from)
    assert (third.rows, third.is_more, session_ids(connection)) == (2, False, set())


def test_nothing_to_remove_is_as_good(connection):
    living = create_session(connection, created_at=NOW, expires_at=NOW + DAY)
    done = session_cleanup.step(NOW, 3)
    assert (done.rows, done.is_more, done.expired_from, done.anonymous_from) == (0, False, None, None)
    assert session_ids(connection) == {living}


def test_two_workers_remove_each_session_once_and_together_all(app, connection):
    """The first has its batch and has not committed yet; the second takes the next ones, and waits for nobody."""
    of_a_user = create_session(connection, create_user(connection), created_at=NOW, expires_at=NOW + DAY)
    create_sessions(connection, 30, created_at=NOW - 3 * DAY, lasting=HOUR)
    create_sessions(connection, 30, created_at=NOW - 2 * DAY, lasting=30 * DAY)
    with background(app) as start:
        with held(
            connection, "SELECT id FROM user_sessions WHERE user_id IS NULL ORDER BY expires_at LIMIT 10 FOR UPDATE"
        ):
            passing = session_cleanup.step(NOW, 20)
            assert (passing.expired, waiting_for_locks(connection)) == (20, 0)
            create_sessions(connection, 30, created_at=NOW - 3 * DAY, lasting=HOUR)
        drained = [start(drain, app) for _ in range(3)]
        assert passing.rows + sum(one.result(timeout=30) for one in drained) == 90
    assert session_ids(connection) == {of_a_user}


def drain(app: Flask) -> int:
    """As a chain of messages does it; how many went."""
    done = session_cleanup.step(NOW, 7)
    removed = done.rows
    while done.is_more:
        done = session_cleanup.step(NOW, 7, done.expired_from, done.anonymous_from)
        removed += done.rows
    return removed


def test_a_message_removes_a_batch_and_sends_the_next_until_nothing_is_left(connection, messages):
    create_sessions(connection, 9, created_at=NOW - 40 * DAY, lasting=HOUR)
    living = create_session(connection)
    left, sent = [], [("cleanup-user-sessions", {})]
    while sent:
        [(task, arguments)] = sent
        assert task == "cleanup-user-sessions"
        session_tasks.cleanup_user_sessions.apply(kwargs=arguments, throw=True)
        left.append(len(session_ids(connection)))
        sent = messages()
        assert all(one["expired_from"] is not None for _, one in sent)
    assert (left, session_ids(connection)) == ([6, 2, 1], {living})


def test_a_plain_call_removes_one_batch_and_says_how_many_that_were(connection, messages):
    create_sessions(connection, 5, created_at=NOW - 40 * DAY, lasting=HOUR)
    assert [session_tasks.cleanup_user_sessions() for _ in range(3)] == [4, 1, 0]
    assert messages() == []


def test_a_message_that_makes_no_sense_is_refused(connection, messages):
    create_sessions(connection, 5, created_at=NOW - 40 * DAY, lasting=HOUR)
    ended = session_tasks.cleanup_user_sessions.apply(kwargs={"expired_from": "yesterday"})
    assert (ended.state, len(session_ids(connection)), messages()) == ("IGNORED", 5, [])


class TestSwitchedOff:
    @pytest.fixture
    def settings_override(self) -> dict[str, str]:
        return {"SESSIONS_ENABLED": "false"}

    def test_a_message_that_is_still_in_the_queue_removes_nothing(self, connection, messages):
        create_sessions(connection, 5, created_at=NOW - 40 * DAY, lasting=HOUR)
        session_tasks.cleanup_user_sessions.apply(throw=True)
        assert (len(session_ids(connection)), messages()) == (5, [])


def test_status_counts_the_living_and_the_dead(flask, connection):
    user_id = create_user(connection)
    for _ in range(2):
        create_session(connection, user_id)
    create_session(connection)
    create_sessions(connection, 5, created_at=NOW - 40 * DAY, lasting=HOUR)
    create_sessions(connection, 3, created_at=NOW - 40 * DAY, lasting=1_000 * DAY)
    said = flask("status")
    assert said.exit_code == 0
    assert said.stdout.splitlines()[1:] == [
        "Living: 2 of users, 1 anonymous.",
        "Dead: 5 expired, 3 anonymous and older than 24 h.",
        "72.7% are dead; the oldest was made on 2026-01-20 12:00 UTC.",
    ]
    assert said.stdout.startswith("11 sessions, ")


def test_a_purge_asks_first_and_a_dry_run_removes_nothing(flask, connection):
    create_sessions(connection, 5, created_at=NOW - 40 * DAY, lasting=HOUR)
    assert flask("purge", input="n\n").exit_code == 1
    dry = flask("purge", "--dry-run", "--yes")
    assert (dry.exit_code, dry.stdout.splitlines()[-1]) == (0, "Dry run: nothing was removed.")
    assert len(session_ids(connection)) == 5


@pytest.mark.parametrize("rows", [0, 3, 4, 9])
def test_a_purge_drains_to_the_last_one(flask, connection, rows):
    living = create_session(connection)
    create_sessions(connection, rows, created_at=NOW - 40 * DAY, lasting=HOUR)
    said = flask("purge", input="y\n")
    assert (said.exit_code, session_ids(connection)) == (0, {living})
    assert rows == 0 or said.stdout.endswith(f"{rows} sessions removed.\n")


def test_what_a_chain_has_passed_is_found_the_next_hour(connection):
    """A batch begins where the one before it ended; the next hour begins at the beginning."""
    user_id = create_user(connection)
    create_sessions(connection, 4, created_at=NOW - 3 * DAY, lasting=HOUR, user_id=user_id)
    first = session_cleanup.step(NOW, 4)
    create_sessions(connection, 2, created_at=NOW - 9 * DAY, lasting=HOUR, user_id=user_id)
    assert session_cleanup.step(NOW, 4, first.expired_from, first.anonymous_from).rows == 0
    assert session_cleanup.step(NOW, 4).rows == 2
    assert session_ids(connection) == set()


def test_a_clock_that_is_ahead_ends_no_living_session(connection):
    living = create_session(connection), create_session(connection, create_user(connection))
    dead = create_session(connection, expires_at=NOW)
    done = session_cleanup.step(datetime.now(UTC) + 31 * DAY, 10)
    assert (session_ids(connection), done.expired, done.anonymous) == (set(living), 1, 0)
    assert dead not in living


def refusing(*sessions):
    listed = ", ".join(repr(str(session)) for session in sessions)
    return f"IF OLD.id IN ({listed}) THEN RAISE EXCEPTION 'no %', OLD; END IF; RETURN OLD;"


def deferred(connection):
    return connection.execute(text("SELECT * FROM deferred_sessions ORDER BY session_id")).mappings().all()


@pytest.mark.parametrize("of_a_user", [True, False])
def test_one_session_that_the_database_refuses_keeps_no_other_and_is_tried_again_later(connection, flask, of_a_user):
    user_id = create_user(connection) if of_a_user else None
    dead = [create_session(connection, user_id, created_at=NOW - 9 * DAY, expires_at=NOW - i * HOUR) for i in range(9)]
    refused = {dead[4], dead[8]}
    with trigger(connection, "BEFORE DELETE ON user_sessions", refusing(*refused)):
        while session_cleanup.step(datetime.now(UTC), 4).is_more:
            """Until nothing is left to do."""
        assert session_ids(connection) == refused
        assert {row["session_id"] for row in deferred(connection)} == refused
        assert {(row["reason"], row["attempts"]) for row in deferred(connection)} == {
            ("RaiseException P0001 (in_the_way)", 1)
        }
        assert session_cleanup.step(datetime.now(UTC), 4).rows == 0, "they are not due"
        connection.execute(text("UPDATE deferred_sessions SET next_attempt_at = now(), attempts = 7"))
        session_cleanup.step(datetime.now(UTC), 4)
    assert {row["attempts"] for row in deferred(connection)} == {8}
    assert all(row["next_attempt_at"] - datetime.now(UTC) > 0.9 * HOUR for row in deferred(connection))
    said = flask("status").output
    assert "Refused: 2, since" in said
    assert "tried up to 8 times; needs a person: RaiseException P0001 (in_the_way)" in said
    connection.execute(text("UPDATE deferred_sessions SET next_attempt_at = now()"))
    assert session_cleanup.step(datetime.now(UTC), 4).rows == 2
    session_cleanup.step(datetime.now(UTC), 4)
    assert (session_ids(connection), deferred(connection)) == (set(), [])


def test_a_table_that_refuses_everything_is_said_once_and_without_a_value(connection):
    dead = [create_session(connection, expires_at=NOW - i * HOUR) for i in range(4)]
    all_refused = pytest.raises(session_cleanup.SessionsRefused, match=r"^RaiseException P0001 \(in_the_way\)$")
    with trigger(connection, "BEFORE DELETE ON user_sessions", refusing(*dead)), all_refused as refused:
        session_cleanup.step(datetime.now(UTC), 4)
    assert not any(str(session) in "".join(format_exception(refused.value)) for session in dead)
    assert (session_ids(connection), deferred(connection)) == (set(dead), [])
