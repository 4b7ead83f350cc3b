"""The role of deploy/postgres/accounts_worker.sql: what a deletion does is possible under it, and needs all of it.

Each privilege that the deletion of accounts is there for is taken away by itself, and something must be refused. Those
that other work on accounts needs are named here, and tested with it. Seen to fail: a privilege that nothing in the walk
needed (DELETE on malformed_flags, while no user in it had such flags).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from flask import Flask
from psycopg2 import errors
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import ProgrammingError

from app import clock
from app.accounts import confirmation, deletion
from app.dao import blocked_dao
from app.dao.heartbeats_dao import ACCOUNTS
from app.db import db
from app.retention import heartbeat
from app.state import asked
from app.state.asked import findings_of_people
from app.state.privileges import PRIVILEGES
from tests.factories import create_service
from tests.integration.accounts.owned import (
    create_user,
    delete,
    exists,
    fill,
    make_manager,
    mark_by_sql,
    record,
    run,
)
from tests.least import ACCOUNTS_ROLE, ACCOUNTS_ROLE_FILE

LOGIN = "_login"
GRANT = re.compile(rf"GRANT ((?:[A-Z]+(?: \([^)]+\))?(?:, )?)+) ON (.+?) TO {ACCOUNTS_ROLE}\b")
OTHER_WORK = {
    ("INSERT", "user_sessions"),
    ("UPDATE", "user_sessions"),
    *((privilege, "deferred_sessions") for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")),
    ("INSERT", "user_exports"),
    ("UPDATE", "user_exports"),
    ("DELETE", "user_exports"),
    ("SELECT", "email_rate"),
    ("INSERT", "email_rate"),
    ("UPDATE", "email_rate"),
    ("SELECT", "retention.login_attempts"),
    ("INSERT", "retention.login_attempts"),
    ("UPDATE", "retention.login_attempts"),
    ("DELETE", "retention.login_attempts"),
    ("INSERT", "retention.session_batches"),
    ("SELECT", "retention.user_sweeps"),
    ("INSERT", "retention.user_sweeps"),
    ("UPDATE", "retention.user_sweeps"),
    ("DELETE", "retention.user_sweeps"),
}
"""Needed by sessions, log-ins, exports, emails and the sweeps over users."""


class Refused(BaseException):
    """PostgreSQL refused something. Not an Exception, which the product could take care of."""


def privileges() -> list[tuple[str, str]]:
    """Each privilege of the file by itself: what, and on what."""
    found = [GRANT.search(line) for line in ACCOUNTS_ROLE_FILE.read_text().splitlines() if not line.startswith("--")]
    listed = [match.groups() for match in found if match]
    return [(what, on) for several, on in listed for what in re.split(r", (?![^(]*\))", several)]


NEEDED = [privilege for privilege in privileges() if privilege not in OTHER_WORK]


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"ACCOUNT_REQUEST_SECONDS": "60", "RETAIN_EMAILS": "true", "S3_BUCKET_USER_FILES": ""}


@pytest.fixture
def role(environment: dict[str, str]) -> str:
    """The accounts' group of the application's login."""
    return (make_url(environment["DATABASE_URL"]).username or "").removesuffix(LOGIN) + "_accounts"


@pytest.fixture(autouse=True)
def only_this_role(connection: Connection, role: str) -> Iterator[None]:
    """The login is not a member of the nightly pipeline's group meanwhile."""
    nightly = role.removesuffix("_accounts")
    connection.exec_driver_sql(f"REVOKE {nightly} FROM {nightly}{LOGIN}")
    yield
    connection.exec_driver_sql(f"GRANT {nightly} TO {nightly}{LOGIN}")


@pytest.fixture
def refusals(app: Flask) -> list[str]:
    """What PostgreSQL has refused the application."""
    seen: list[str] = []

    def note(context: Any) -> None:
        said = str(context.original_exception)
        # Who may not connect gets no code.
        if getattr(context.original_exception, "pgcode", None) in ("42501", "42P01") or "permission denied" in said:
            seen.append(said)

    event.listen(app.extensions["db.engine"], "handle_error", note)
    return seen


@pytest.fixture
def ends_when_refused(app: Flask, refusals: list[str]) -> None:
    """Raises Refused as soon as there is a refusal."""

    def end(context: Any) -> None:
        if refusals:
            raise Refused(refusals[0])

    event.listen(app.extensions["db.engine"], "handle_error", end)


@contextmanager
def without(connection: Connection, role: str, what: str, on: str) -> Iterator[None]:
    """The privilege taken away for as long as the block runs."""
    on = on.replace("%I", f'"{connection.engine.url.database}"')
    connection.exec_driver_sql(f"REVOKE {what} ON {on} FROM {role}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"GRANT {what} ON {on} TO {role}")


def walk(app: Flask, connection: Connection) -> None:
    """All that the deletion of accounts does: in the request, by workers, blocked, confirmed, and its commands."""
    user, other, blocked = (create_user(connection) for _ in range(3))
    fill(connection, user)
    make_manager(connection, blocked, create_service(connection))
    assert delete(user) == "complete"
    assert not exists(connection, user)
    confirmation.confirm(user, lambda _to, _message: None)
    for marked in (other, blocked):
        mark_by_sql(connection, marked)
    connection.execute(text("UPDATE users SET flags = '[1]' WHERE id = :id"), {"id": other})
    # Under way, so that flags which can't be read stop it no longer.
    connection.execute(text("UPDATE user_deletions SET rows_done = 1 WHERE user_id = :id"), {"id": other})
    assert set(deletion.take_due()) == {other, blocked}
    assert run(other)
    assert not run(blocked)
    assert record(connection, blocked)["state"] == "blocked"
    connection.execute(text("UPDATE user_deletions SET completed_at = now() - interval '9 years'"))
    deletion.purge_records()
    assert record(connection, user) is None
    heartbeat.relay_ran(ACCOUNTS)
    with db.transaction() as own:
        for _ in range(2):
            blocked_dao.note(own, ["accounts"], {"accounts": ("something is wrong", "fix it")}, clock.now())
    asked.note(["accounts"], clock.now())
    make_manager(connection, create_user(connection), create_service(connection))
    for exit_code, arguments in ((1, ["status"]), (0, ["delete", str(create_user(connection)), "--yes"])):
        ended = app.test_cli_runner().invoke(args=["accounts", *arguments])
        assert ended.exit_code == exit_code, ended.output  # 1: a deletion is blocked


def test_everything_that_a_deletion_does_is_possible_under_the_role(app, connection, refusals):
    walk(app, connection)
    assert refusals == []


@pytest.mark.parametrize(("what", "on"), NEEDED, ids=lambda value: value)
def test_each_privilege_is_needed(app, connection, role, refusals, ends_when_refused, what, on):
    """The walk ends with the first refusal, whoever would have handled it."""
    with without(connection, role, what, on):
        with suppress(Refused, AssertionError):
            walk(app, connection)
        assert refusals or said_of_privileges(), f"nothing needs {what} ON {on}"


def said_of_privileges() -> list[str]:
    """What is not tried at all where a precondition says that it would be refused."""
    with db.transaction(read_only=True) as connection:
        return [finding.sentence for finding in findings_of_people(connection) if finding.about == PRIVILEGES]


def test_what_other_work_needs_is_in_the_file():
    assert set(privileges()) >= OTHER_WORK


NOT_ALLOWED = [
    "INSERT INTO users (id, name, email_address, created_at) VALUES (gen_random_uuid(), '', '', now())",
    "INSERT INTO user_deletions (user_id) VALUES (gen_random_uuid())",
    "SELECT FROM retained_emails",
    "DELETE FROM retained_emails",
    "UPDATE users SET platform_admin = true",
    "UPDATE users SET email_address = ''",
    "UPDATE permissions SET user_id = gen_random_uuid()",
    "INSERT INTO permissions (id) VALUES (gen_random_uuid())",
    "UPDATE api_keys SET name = ''",
    "DELETE FROM api_keys",
    "DELETE FROM templates",
    "UPDATE templates SET content = ''",
    "DELETE FROM notifications",
    'SELECT "to" FROM notifications',
    "UPDATE notification_history SET notification_status = 'delivered'",
    "UPDATE services SET active = false",
    "TRUNCATE users CASCADE",
    "ALTER TABLE users DISABLE TRIGGER ALL",
]


@pytest.mark.parametrize("statement", NOT_ALLOWED)
def test_nothing_else_is_possible_under_the_role(app, statement):
    engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ProgrammingError) as refused:
        connection.execute(text(statement))
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)
