"""Promise 11: a hold or a pause that was confirmed is never overtaken, by no task that destroys or rewrites, whatever
the isolation level that the database has as its default.

Each task is run while what stops it stands, and midway: a real transaction of it is held open just before its commit
while the hold is being placed. Seen to fail: the row not locked; holds not read; the kinds of `holds_dao.KINDS` left
out; what is placed waiting for nothing; READ COMMITTED left to the database. What a precondition blocks:
the question left out, task by task.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, event, text

from app import clock
from app.accounts import deletion, export, inactivity, login_limits, session_cleanup
from app.accounts.sweeps import MARK, NEVER_COMPLETED
from app.accounts.tools import tools
from app.dao.holds_dao import PIPELINE, of_service, of_user
from app.retention import (
    audit,
    delete_test_notifications,
    folder_index,
    move_notifications_to_notification_history,
    nightly,
    operations,
    records,
)
from app.retention.operations import Placed
from app.state import asked
from tests.audits import all_buckets, key_of, put, reference
from tests.chain_steps import do_all, open_chains
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.factories import create_letter, create_notification, create_service, days_ago
from tests.session_rows import create_session
from tests.users import create_user

pytestmark = pytest.mark.usefixtures("app")
BATCH = 2
SERVICE, USER = "service", "user"
LONG_AGO = days_ago(1000)
# Not the pipeline's own records of what it did, or of what it found that it must not do.
WORLD = {
    "notifications": "id",
    "notification_history": "id",
    "users": "*",
    "user_sessions": "id",
    "templates": "id, created_by_id",
    "user_deletions": "user_id, rows_done, completed_at",
    "user_exports": "*",
    "retention.login_attempts": "attempts",
    "retention.indexed_folders": "id",
    "retention.steps WHERE started_at < now() - interval '400 days'": "id",
}


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {
        "MESSAGES_PER_STEP": str(BATCH),
        "LETTERS_PER_STEP": str(BATCH),
        "ACCOUNT_ROWS_PER_BATCH": str(BATCH),
        "S3_BUCKET_USER_FILES": "",
        "ACCOUNT_RETRY_SECONDS": "1",
        "AUDIT_MARGIN_HOURS": "0.000001",
        "LETTER_FOLDER_INDEX": "false",
    }


@dataclass
class Case:
    """Something past its time of a service and of a user, and the place of it in the object store."""

    connection: Connection
    s3: Any
    service: UUID
    user: UUID
    files: set[tuple[str, str]] = field(default_factory=set)

    def world(self) -> dict[str, list[str]]:
        """All that must not change, files included."""
        found = {
            table: sorted(str(tuple(row)) for row in self.connection.execute(text(f"SELECT {columns} FROM {table}")))
            for table, columns in WORLD.items()
        }
        listed = [(bucket, self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])) for bucket in self._buckets()]
        return found | {"files": sorted(f"{bucket} {one['Key']}" for bucket, keys in listed for one in keys)}

    def _buckets(self) -> set[str]:
        return {bucket for bucket, _ in self.files}


# What there is to be destroyed, and what destroys it ------------------------------------------------------------------


def rows(case: Case, notification_type: str = "email", key_type: str = "normal") -> None:
    for _ in range(2 * BATCH):
        create_notification(case.connection, case.service, notification_type, key_type=key_type)


def letters(case: Case) -> None:
    for _ in range(2 * BATCH):
        create_letter(case.connection, case.s3, case.service)


def chain(notification_type: str) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        do_all(open_chains(case.service, notification_type) or nightly.dispatch()[0])

    return run


def by_hand(case: Case) -> None:
    while move_notifications_to_notification_history("email", case.service, days_ago(0)):
        """Another batch."""


def tests_by_hand(case: Case) -> None:
    while delete_test_notifications("email", case.service, days_ago(0)):
        """Another batch."""


def orphans(case: Case) -> None:
    bucket = all_buckets()[0]
    case.files |= {put(case.s3, bucket, key_of(reference())) for _ in range(BATCH)}
    create_letter(case.connection, case.s3, case.service, created_at=days_ago(1))  # or it would be the wrong database


def delete_orphans(case: Case) -> None:
    current = audit.under_way() or audit.begin("someone", deletes=True)
    with suppress(audit.PipelinePaused):
        audit.go_on(current)


def old_records(case: Case) -> None:
    statement = """
        INSERT INTO retention.steps
            (night, notification_type, service_id, cutoff, stage, slice, step, started_at, seconds, outcome, chosen,
             moved, deleted, files_deleted, without_file, deferred, counted)
        VALUES (:at, 'email', :service, :at, 'real', 0, 0, :at, 1, 'removed', 1, 1, 0, 0, 0, 0, true)
    """
    case.connection.execute(text(statement), {"service": case.service, "at": LONG_AGO})


def an_index(case: Case) -> None:
    statement = """
        INSERT INTO retention.indexed_folders (store, bucket, folder, worth_pages, begun_at, due_at)
        VALUES ('a store', 'a bucket', 'a folder', 0, :at, :at)
    """
    case.connection.execute(text(statement), {"at": LONG_AGO})


def dead_sessions(case: Case) -> None:
    for _ in range(2 * BATCH):
        create_session(case.connection, case.user, created_at=LONG_AGO, expires_at=LONG_AGO)


def clean_sessions(_case: Case) -> None:
    while session_cleanup.step(clock.now(), BATCH).is_more:
        """Another batch."""


def a_member(case: Case) -> None:
    case.connection.execute(
        text("""UPDATE users SET flags = flags || '{"in_deletion": true}' WHERE id = :id"""), {"id": case.user}
    )
    statement = """
        INSERT INTO templates (id, name, content, service_id, created_by_id, created_at)
        SELECT gen_random_uuid(), 'a', 'b', :service, :user, now() FROM generate_series(1, :rows)
    """
    case.connection.execute(text(statement), {"service": case.service, "user": case.user, "rows": 2 * BATCH})


def delete_account(case: Case) -> None:
    """Once it is due, which whoever lifts a hold makes it."""
    while deletion.run(case.user, str(uuid4())):
        """Another stretch."""


def old_deletion(case: Case) -> None:
    statement = """
        INSERT INTO user_deletions (user_id, state, requested_by, requested_at, due_at, completed_at)
        VALUES (:user, 'complete', 'user', :at, :at, :at)
    """
    case.connection.execute(text(statement), {"user": case.user, "at": LONG_AGO})


def old_attempts(case: Case) -> None:
    statement = "INSERT INTO retention.login_attempts (key, attempts, ends_at) VALUES ('a', 1, :at)"
    case.connection.execute(text(statement), {"at": LONG_AGO})


def unseen(**columns: Any) -> Callable[[Case], None]:
    def make(case: Case) -> None:
        values = {"last_visit_at": LONG_AGO, "state": "active", "deletion_warning_sent_at": None, **columns}
        statement = ", ".join(f"{name} = :{name}" for name in values)
        case.connection.execute(
            text(f"UPDATE users SET {statement}, deletion_warning_address = email_address WHERE id = :id"),
            values | {"id": case.user},
        )

    return make


def an_export(case: Case) -> None:
    export_id, bucket = uuid4(), tools().settings.s3_bucket_exports
    statement = """
        INSERT INTO user_exports (id, user_id, state, requested_at, due_at, deadline_at, expires_at, object_key)
        VALUES (:id, :user, 'ready', :at, :at, :at, :at, :key)
    """
    values = {"id": export_id, "user": case.user, "at": LONG_AGO, "key": export.key_of(export_id)}
    case.connection.execute(text(statement), values)
    case.files.add(put(case.s3, bucket, export.key_of(export_id)))


def old_export(case: Case) -> None:
    statement = """
        INSERT INTO user_exports (id, user_id, state, requested_at, due_at, deadline_at)
        VALUES (gen_random_uuid(), :user, 'failed', :at, :at, :at)
    """
    case.connection.execute(text(statement), {"user": case.user, "at": LONG_AGO})


@dataclass(frozen=True)
class Task:
    """What there is for it, how to run it to its end, what stops it, and the table that it writes to."""

    make: Callable[[Case], None]
    run: Callable[[Case], object]
    stops_for: str
    writes: str


OF_SERVICE, OF_USER, OF_ALL = f"{PIPELINE} {SERVICE}", f"{PIPELINE} {USER}", f"{PIPELINE} {SERVICE} {USER}"
TASKS = {
    "emails": Task(rows, chain("email"), OF_SERVICE, "notifications"),
    "letters": Task(letters, chain("letter"), OF_SERVICE, "notifications"),
    "by hand": Task(rows, by_hand, OF_SERVICE, "notifications"),
    "tests by hand": Task(lambda case: rows(case, key_type="test"), tests_by_hand, OF_SERVICE, "notifications"),
    "audit": Task(orphans, delete_orphans, OF_SERVICE, "retention.audit_deletions"),
    "records": Task(old_records, lambda _: records.purge(clock.now()), OF_SERVICE, "retention.steps"),
    "folder index": Task(an_index, lambda _: folder_index.empty_if_done(clock.now()), PIPELINE, "retention.indexed"),
    "sessions": Task(dead_sessions, clean_sessions, OF_USER, "user_sessions"),
    "accounts": Task(a_member, delete_account, OF_ALL, "templates"),
    "records of accounts": Task(old_deletion, lambda _: deletion.purge_records(), OF_USER, "user_deletions"),
    "records of exports": Task(old_export, lambda _: export.purge_records(), OF_USER, "user_exports"),
    "attempts": Task(old_attempts, lambda _: login_limits.purge(clock.now()), PIPELINE, "retention.login_attempts"),
    "warnings": Task(unseen(), lambda _: inactivity.warn_page(send=lambda *_: None), OF_USER, "users"),
    "marks": Task(
        unseen(deletion_warning_sent_at=days_ago(400)), lambda _: inactivity.mark_page(MARK), OF_USER, "users"
    ),
    "never completed": Task(unseen(state="pending"), lambda _: inactivity.mark_page(NEVER_COMPLETED), OF_USER, "users"),
    "exports": Task(an_export, lambda _: export.remove_expired(), OF_USER, "user_exports"),
}
CASES = [
    pytest.param(task, scope, id=f"{name}, {scope}") for name, task in TASKS.items() for scope in task.stops_for.split()
]


@pytest.fixture
def case(app: Flask, connection: Connection, s3: Any) -> Case:
    found = Case(connection, s3, create_service(connection), create_user(connection))
    found.files |= {(bucket, "") for bucket in all_buckets()}
    return found


def place(scope: str, case: Case) -> Placed:
    if scope == PIPELINE:
        return operations.pause("an incident", "someone", 20)
    if scope == SERVICE:
        return operations.hold(case.service, "a dispute", "someone", 20)
    return operations.hold_user(case.user, "a dispute", "someone", 20)


def lift(scope: str, case: Case) -> None:
    scopes = {PIPELINE: PIPELINE, SERVICE: of_service(case.service), USER: of_user(case.user)}
    assert operations.lift(scopes[scope], "someone")[0]


@pytest.mark.parametrize(("task", "scope"), CASES)
def test_what_stands_before_a_task_begins_lets_nothing_change_until_it_is_lifted(case, task, scope):
    task.make(case)
    before = case.world()
    assert place(scope, case) == Placed(is_new=True)
    task.run(case)
    assert case.world() == before
    lift(scope, case)
    task.run(case)
    assert case.world() != before


@dataclass(frozen=True)
class Broken:
    """A table that is no longer what it must be, in a way that no statement would fail for."""

    table: str
    column: str
    is_with_zone: bool

    def breaks(self) -> str:
        return self._to("timestamp" if self.is_with_zone else "timestamptz")

    def fixes(self) -> str:
        return self._to("timestamptz" if self.is_with_zone else "timestamp")

    def _to(self, kind: str) -> str:
        return f"ALTER TABLE {self.table} ALTER {self.column} TYPE {kind} USING {self.column} AT TIME ZONE 'UTC'"


OF_NOTIFICATIONS = Broken("notifications", "created_at", is_with_zone=False)
OF_ACCOUNTS = Broken("users", "free_trial_end", is_with_zone=True)
OF_SESSIONS = Broken("user_sessions", "expires_at", is_with_zone=True)
BLOCKED_BY = {
    **dict.fromkeys(("emails", "letters", "by hand", "tests by hand", "audit"), OF_NOTIFICATIONS),
    **dict.fromkeys(("accounts", "records of accounts", "records of exports", "exports"), OF_ACCOUNTS),
    **dict.fromkeys(("warnings", "marks", "never completed"), OF_ACCOUNTS),
    "sessions": OF_SESSIONS,
}
"""What else destroys goes by our own tables alone."""


@pytest.mark.parametrize("name", BLOCKED_BY)
def test_what_blocks_a_policy_lets_nothing_of_it_change_until_it_is_fixed(app, case, connection, name):
    task, broken = TASKS[name], BLOCKED_BY[name]
    task.make(case)
    connection.exec_driver_sql(broken.breaks())
    try:
        asked.forget()
        before = case.world()
        with suppress(asked.PolicyBlocked):
            task.run(case)
        assert case.world() == before
    finally:
        connection.exec_driver_sql(broken.fixes())
        app.extensions["db.engine"].dispose()
    before = case.world()
    task.run(case)
    assert case.world() != before


@contextmanager
def default_isolation(connection: Connection, engine: Engine, level: str) -> Iterator[None]:
    """What the database gives to a connection that does not say what it wants."""
    database = connection.engine.url.database
    connection.exec_driver_sql(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = '{level}'")
    engine.dispose()
    try:
        yield
    finally:
        connection.exec_driver_sql(f'ALTER DATABASE "{database}" RESET default_transaction_isolation')
        engine.dispose()


class Gate:
    """Holds the first transaction open, before its commit, that has written to a table."""

    def __init__(self, engine: Engine, table: str) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._engine = engine
        self._writes = re.compile(rf"\b(DELETE FROM|UPDATE|TRUNCATE)\s+(public\.)?{re.escape(table)}")

    def __enter__(self) -> "Gate":
        event.listen(self._engine, "before_cursor_execute", self._note)
        event.listen(self._engine, "commit", self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.set()
        event.remove(self._engine, "before_cursor_execute", self._note)
        event.remove(self._engine, "commit", self._hold)

    def _note(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if self._writes.search(statement.replace('"', "")):
            connection.info["writes"] = True

    def _hold(self, connection: Connection) -> None:
        if connection.info.pop("writes", False) and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(20)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize(("task", "scope"), CASES)
def test_what_is_placed_midway_waits_for_the_transaction_and_nothing_changes_after_it_is_confirmed(
    app, case, connection, task, scope, level
):
    task.make(case)
    engine = app.extensions["db.engine"]
    with default_isolation(connection, engine, level), background(app) as start, Gate(engine, task.writes) as gate:
        running = start(task.run, case)
        assert gate.reached.wait(20), running.result(0)
        placing = start(place, scope, case)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        assert not placing.done()
        gate.opened.set()
        assert placing.result(20) == Placed(is_new=True)
        confirmed = case.world()
        running.result(20)
        task.run(case)
        assert case.world() == confirmed
