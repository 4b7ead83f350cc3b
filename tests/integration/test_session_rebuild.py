"""Rebuilding the table of sessions: the dead are gone, nothing else is, and the table is the one that it was.

The application runs as the tables' owner here. Seen to fail: no lock (rows inserted meanwhile are lost), the database's
own isolation, the living chosen by one rule only, what is asked before left out, users' rows locked after the table's,
or waited for under its lock.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text

from app import config, create_app
from app.accounts import session_cleanup, session_rebuild
from app.accounts.session_rebuild import CannotRebuild
from app.dao import user_sessions_dao
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.servers import Servers
from tests.session_rows import (
    DAY,
    HOUR,
    NOW,
    create_session,
    create_sessions,
    create_user,
    held,
    session_ids,
    transaction,
)

LONG_ENOUGH = 30.0
cli = import_module("app.cli.sessions")  # as an attribute of app.cli, the name is the group's
# Everything that makes the table what it is, but the file that it is in.
SHAPE = text(
    """
    SELECT c.oid, c.relacl::text, c.relowner, c.reloptions,
           (SELECT array_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) FROM pg_index WHERE indrelid = c.oid),
           (SELECT array_agg(pg_get_constraintdef(oid) ORDER BY oid) FROM pg_constraint WHERE conrelid = c.oid),
           (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid)
    FROM pg_class AS c WHERE c.oid = 'user_sessions'::regclass
    """
)
FILE = text("SELECT relfilenode FROM pg_class WHERE oid = 'user_sessions'::regclass")


@pytest.fixture
def owner(app: Flask, started_servers: Servers, environment: dict[str, str]) -> Iterator[Flask]:
    """The application as the tables' owner has it."""
    made = create_app(config.load({**environment, "DATABASE_URL": started_servers.administrator_url}))
    with made.app_context():
        yield made
    made.extensions["db.engine"].dispose()


def a_bit_of_everything(connection: Connection) -> None:
    user_id = create_user(connection)
    create_sessions(connection, 9, created_at=NOW - 40 * DAY, lasting=10_000 * DAY, user_id=user_id)
    create_session(connection)
    create_sessions(connection, 500, created_at=NOW - 40 * DAY, lasting=HOUR)
    create_sessions(connection, 500, created_at=NOW - 40 * DAY, lasting=10_000 * DAY)
    create_sessions(connection, 500, created_at=NOW - 40 * DAY, lasting=HOUR, user_id=user_id)


def rows(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT * FROM user_sessions ORDER BY id")))


def test_a_rebuild_and_a_drain_have_the_same_result(owner, connection):
    a_bit_of_everything(connection)
    connection.execute(text("CREATE TABLE kept AS SELECT * FROM user_sessions"))
    shape, file = connection.execute(SHAPE).one(), connection.execute(FILE).scalar()
    rebuilt = session_rebuild.rebuild(LONG_ENOUGH)
    by_rebuild = rows(connection)
    assert (rebuilt.living, len(by_rebuild)) == (10, 10)
    assert connection.execute(SHAPE).one() == shape
    assert connection.execute(FILE).scalar() != file, "a new file, without the room of the dead"
    connection.execute(text("TRUNCATE user_sessions"))
    connection.execute(text("INSERT INTO user_sessions SELECT * FROM kept"))
    connection.execute(text("DROP TABLE kept"))
    while session_cleanup.step(datetime.now(UTC), 400).is_more:
        """Until all are gone that are dead then."""
    assert rows(connection) == by_rebuild


def test_what_others_write_meanwhile_is_there_afterwards(owner, connection, monkeypatch):
    """Some hold the lock first and commit while the rebuild waits; others come while it works, and wait.

    The rebuild asks for the lock as if all transactions were short.
    """
    monkeypatch.setattr(session_rebuild, "_still_there", lambda _: {})
    monkeypatch.setattr(session_rebuild, "SECONDS_TO_WAIT_FOR_LOCK", LONG_ENOUGH)
    a_bit_of_everything(connection)
    user_id = create_user(connection)
    of_before = create_session(connection, user_id)
    written: list[Any] = []

    def log_in() -> None:
        with transaction(connection) as second:
            written.append(create_session(second, user_id))

    with background(owner) as start:
        with transaction(connection) as first:
            committed_while_waiting = create_session(first, user_id)
            changed = {"id": of_before, "until": NOW.replace(year=2099)}
            first.execute(text("UPDATE user_sessions SET expires_at = :until WHERE id = :id"), changed)
            rebuilding = start(session_rebuild.rebuild, LONG_ENOUGH)
            wait_until(lambda: waiting_for_locks(connection) == 1)
            logging_in = start(log_in)
            wait_until(lambda: waiting_for_locks(connection) == 2)
        rebuilding.result(timeout=30)
        logging_in.result(timeout=30)
    assert {of_before, committed_while_waiting, *written} <= session_ids(connection)
    assert len(session_ids(connection)) == 13
    until = connection.execute(text("SELECT expires_at FROM user_sessions WHERE id = :id"), {"id": of_before}).scalar()
    assert until == NOW.replace(year=2099)


def test_it_does_so_whatever_isolation_the_database_has_as_its_default(owner, connection, monkeypatch):
    database = connection.engine.url.database
    connection.execute(text(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'repeatable read'"))
    owner.extensions["db.engine"].dispose()
    try:
        test_what_others_write_meanwhile_is_there_afterwards(owner, connection, monkeypatch)
    finally:
        connection.execute(text(f'ALTER DATABASE "{database}" RESET default_transaction_isolation'))


@pytest.mark.parametrize(
    "statement",
    ["LOCK TABLE user_sessions IN ACCESS SHARE MODE", "SELECT FROM users WHERE id = :id FOR UPDATE"],
    ids=["the table", "a user's row"],
)
def test_who_holds_what_it_needs_is_named_and_nobody_else_waits_meanwhile(owner, connection, statement):
    """A log-in of somebody else's goes on all the while."""
    a_bit_of_everything(connection)
    other = create_user(connection)
    before = session_ids(connection)
    holder = {"id": connection.execute(text("SELECT user_id FROM user_sessions WHERE user_id IS NOT NULL")).scalar()}
    said: list[str] = []
    waiting = 0
    with background(owner) as start, transaction(connection) as holding:
        holding.execute(text("SET LOCAL application_name = 'somebody at work'"))
        pid = holding.execute(text("SELECT pg_backend_pid()")).scalar()
        holding.execute(text(statement), holder if ":id" in statement else {})
        rebuilding = start(session_rebuild.rebuild, LONG_ENOUGH, 2.0, said.append)
        while not rebuilding.done():
            create_session(connection, other)
            waiting = max(waiting, waiting_for_locks(connection))
        with pytest.raises(CannotRebuild) as refused:
            rebuilding.result()
    assert f"held by pid {pid} (somebody at work, in a transaction since " in str(refused.value)
    assert "backup" not in str(refused.value)
    assert [line.startswith(f"Waiting for pid {pid} (somebody at work") for line in said] == [True]
    assert before < session_ids(connection), "nothing was removed, and others came in"
    assert waiting == 0


def test_what_comes_free_is_taken(owner, connection):
    a_bit_of_everything(connection)
    said: list[str] = []
    with background(owner) as start:
        with held(connection, "SELECT FROM users FOR UPDATE"):
            rebuilding = start(session_rebuild.rebuild, LONG_ENOUGH, LONG_ENOUGH, said.append)
            wait_until(lambda: said != [])
        assert rebuilding.result(timeout=30).living == 10


def test_it_deadlocks_with_no_deletion_of_an_account(owner, connection, monkeypatch):
    """The deletion has its user's row and wants the table, which the rebuild is about to have; then in one more way:
    the user's first session comes in after the users' rows were looked at.
    """
    a_bit_of_everything(connection)
    user_id = create_user(connection)
    locked: list[str] = []
    lock = user_sessions_dao.lock

    def stop_before_the_table(own: Connection) -> None:
        create_session(connection, user_id)
        deleting = start(delete_like_a_deletion)
        wait_until(lambda: "row" in locked)
        lock(own)
        locked.append("table")
        wait_until(lambda: waiting_for_locks(connection) == 1)
        futures.append(deleting)

    def delete_like_a_deletion() -> None:
        with transaction(connection) as own:
            own.execute(text("SELECT FROM users WHERE id = :id FOR UPDATE"), {"id": user_id})
            locked.append("row")
            wait_until(lambda: "table" in locked)
            own.execute(text("DELETE FROM user_sessions WHERE user_id = :id"), {"id": user_id})

    futures: list[Any] = []
    with background(owner) as start:
        with monkeypatch.context() as patched:
            patched.setattr(user_sessions_dao, "lock", stop_before_the_table)
            assert session_rebuild._try(LONG_ENOUGH) == (None, {}), "it gives way at once"
        futures[0].result(timeout=30)
    assert session_rebuild.rebuild(LONG_ENOUGH).living == 10


def test_more_living_ones_than_can_be_copied_in_time_are_left_as_they_are(owner, connection):
    a_bit_of_everything(connection)
    before = session_ids(connection)
    with pytest.raises(CannotRebuild, match=r"could not be copied within 0\.002 s"):
        session_rebuild.rebuild(0.002)
    assert session_ids(connection) == before


def test_the_workers_role_is_told_who_may(app, connection):
    a_bit_of_everything(connection)
    before = session_ids(connection)
    ended = app.test_cli_runner().invoke(args=["sessions", "purge", "--rebuild", "--yes"])
    owner = connection.engine.url.username
    assert ended.exit_code == 1
    assert ended.stderr.startswith(
        f"Error: This role may not empty user_sessions, or make a temporary table. Its owner {owner} may: "
    )
    assert session_ids(connection) == before


def test_a_table_that_others_refer_to_is_not_rebuilt(owner, connection):
    a_bit_of_everything(connection)
    connection.execute(text("CREATE TABLE devices (session_id uuid REFERENCES user_sessions)"))
    try:
        with pytest.raises(CannotRebuild, match="Another table refers to user_sessions"):
            session_rebuild.rebuild(LONG_ENOUGH)
    finally:
        connection.execute(text("DROP TABLE devices"))


def test_the_command_rebuilds_after_asking_and_says_for_how_long_others_waited(owner, connection):
    a_bit_of_everything(connection)
    runner = owner.test_cli_runner()
    asked = runner.invoke(args=["sessions", "purge", "--rebuild"], input="n\n")
    assert (asked.exit_code, len(session_ids(connection))) == (1, 1510)
    assert "Rebuild the table from its 10 living sessions?" in asked.stdout
    done = runner.invoke(args=["sessions", "purge", "--rebuild", "--yes"])
    assert done.exit_code == 0
    assert "Rebuilt: 10 living sessions; others were kept out for " in done.stdout
    assert len(session_ids(connection)) == 10


@pytest.mark.parametrize(
    ("least_rows", "share", "is_offered"), [(1_510, 0.99, True), (1_511, 0.99, False), (9, 0.995, False)]
)
def test_a_rebuild_is_offered_where_it_pays(owner, connection, monkeypatch, least_rows, share, is_offered):
    """1,500 of 1,510 are dead: 99.3 %."""
    monkeypatch.setattr(cli, "LEAST_ROWS_TO_OFFER_A_REBUILD", least_rows)
    monkeypatch.setattr(cli, "SHARE_FROM_WHICH_A_REBUILD_PAYS", share)
    a_bit_of_everything(connection)
    file = connection.execute(FILE).scalar()
    said = owner.test_cli_runner().invoke(args=["sessions", "purge"], input="y\n")
    assert ("Rebuilt: 10 living sessions" in said.stdout, "1,500 sessions removed." in said.stdout) == (
        is_offered,
        not is_offered,
    )
    assert (connection.execute(FILE).scalar() != file) is is_offered
    assert len(session_ids(connection)) == 10


def test_who_asks_for_no_questions_gets_no_lock(owner, connection, monkeypatch):
    monkeypatch.setattr(cli, "LEAST_ROWS_TO_OFFER_A_REBUILD", 1)
    a_bit_of_everything(connection)
    file = connection.execute(FILE).scalar()
    said = owner.test_cli_runner().invoke(args=["sessions", "purge", "--yes"])
    assert "rebuilding the table from the live ones is faster" in said.stdout
    assert (connection.execute(FILE).scalar(), len(session_ids(connection))) == (file, 10)


def test_a_role_that_may_not_rebuild_is_offered_the_drain_alone(app, connection, monkeypatch):
    monkeypatch.setattr(cli, "LEAST_ROWS_TO_OFFER_A_REBUILD", 1)
    a_bit_of_everything(connection)
    said = app.test_cli_runner().invoke(args=["sessions", "purge"], input="y\n")
    assert (said.exit_code, len(session_ids(connection))) == (0, 10)
    assert "This role may not empty user_sessions" in said.stdout
