"""A row that the database refuses is quoted nowhere: whichever task, command or request meets it.

Every table refuses every write with a message, a detail and a hint that quote planted values, as a constraint's detail
and a trigger's message do. Then each registered task, each command that writes and each request that writes is run, and
all that it leaves behind is searched: logs as JSON, as a person reads them and as Celery writes them, Sentry's and the
traces' transport, what the command printed, and every column of the pipeline's own tables.

Seen to fail: without `hide_values`, all but the requests and commands, which were careful before; with the driver's
text left as the cause of SQLAlchemy's, the tasks and the session.
"""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
import sentry_sdk
import structlog
from flask import Flask
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from app import logs
from app.celery import celery
from app.db import db
from app.models import User
from app.observability import error_reports, tracing
from app.refusals import refusal_of
from tests.factories import create_letter, create_notification, create_service, days_ago
from tests.fakes.collector import Collected, collector
from tests.session_rows import PASSWORD, create_session, create_token, create_user, password_hash

pytestmark = pytest.mark.filterwarnings("ignore:The send_default_pii option:DeprecationWarning")

PLANTED = "philippa secretly wishes"
ADDRESS = "philippa@secret.test"
OWN_TABLES = text(
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
    "WHERE schemaname = ANY (:schemas) AND tablename NOT IN ('alembic_version')"
)
# Under SQLSTATEs of rows, of names and of time limits: whatever a trigger calls it.
REFUSE = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        PERFORM nextval('public.refusals');
        RAISE EXCEPTION 'Failing row contains (%, PLANTED)', coalesce(NEW, OLD)
            USING DETAIL = 'Failing row contains (PLANTED)', HINT = 'PLANTED', ERRCODE = 'CODE';
    END
$$;
""".replace("PLANTED", PLANTED)
REFUSE_NO_MORE = "DROP FUNCTION IF EXISTS refuse CASCADE; DROP SEQUENCE IF EXISTS refusals"
EXPORT = f"""
INSERT INTO user_exports (id, user_id, state, email_address, requested_at, deadline_at, due_at, expires_at, object_key)
VALUES (:id, :user, :state, '{ADDRESS}', :now, :later, :now, :old, 'exports/x.zip')
"""
FOR_MANY = """
INSERT INTO retention.chains (night, notification_type, days, cutoff, stage, due_at, created_at)
VALUES (CAST(:lately AS date), 'email', 7, :lately, 'real', :lately, :lately)
RETURNING id
"""
BEGUN = """
INSERT INTO retention.run_types (night, notification_type, sent_at) VALUES (CAST(:lately AS date), 'sms', :lately)
"""
DELETED = """
INSERT INTO user_deletions (user_id, state, requested_at, completed_at) VALUES (:user, 'complete', :old, :old)
"""


SWEEP = """
INSERT INTO retention.policy_sweeps (policy, period, started_at, due_at)
VALUES ('policy-steps', :old, :old, :old) RETURNING id
"""


@dataclass
class World:
    """What there is to be done, all of it overdue."""

    app: Flask
    connection: Connection
    service: UUID
    user: UUID
    leaving: UUID
    export: UUID
    token: str
    chain: int
    policy_sweep: int


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {"FAN_OUT_SPREAD_SECONDS": "0", "ACCOUNTS_ENABLED": "true"}


@pytest.fixture
def world(app: Flask, connection: Connection, s3: Any) -> World:
    """With a planted value in every row that can hold one."""
    service, export = create_service(connection), uuid4()
    personal = {"to": PLANTED, "normalised_to": PLANTED, "_personalisation": PLANTED}
    for kind in ("email", "sms"):
        for key_type in ("normal", "test"):
            create_notification(connection, service, kind, key_type=key_type, **personal)
    create_letter(connection, s3, service, **personal)
    create_letter(connection, s3, service, key_type="test", **personal)
    create_letter(connection, s3, service, notification_status="sending", **personal)
    long_ago = days_ago(4_000)
    user = create_user(
        connection,
        name=PLANTED,
        email_address=ADDRESS,
        password_hash=password_hash(),
        created_at=long_ago,
    )
    create_user(connection, name=PLANTED, state="pending", created_at=long_ago)
    leaving = create_user(connection, name=PLANTED, flags={"in_deletion": True})
    create_session(connection, user, created_at=days_ago(30), expires_at=days_ago(20))
    create_user(connection, name=PLANTED, created_at=long_ago, deletion_warning_sent_at=days_ago(2_000))
    at = {"old": long_ago, "lately": days_ago(3), "later": days_ago(-1), "now": days_ago(0)}
    for statement, values in (
        (EXPORT, {"id": export, "user": leaving, "state": "requested", **at}),
        (EXPORT, {"id": uuid4(), "user": user, "state": "ready", **at}),
        ("INSERT INTO retention.runs (night, started_at) VALUES (CAST(:lately AS date), :lately)", at),
        (BEGUN, at),
        (DELETED, {"user": uuid4(), **at}),
    ):
        connection.execute(text(statement), values)
    chain = connection.execute(text(FOR_MANY), at).scalar_one()
    sweep = connection.execute(text(SWEEP), at).scalar_one()
    return World(app, connection, service, user, leaving, export, create_token(connection, user), chain, sweep)


PLATFORM, BOTH = ["public"], ["public", "retention"]


@pytest.fixture(params=[("23514", BOTH), ("42P01", BOTH), ("57014", PLATFORM)], ids=lambda given: given[0])
def refusing(request: pytest.FixtureRequest, world: World) -> Iterator[bool]:
    """From here on every write of a row is refused in these schemas; whether the pipeline's own is one of them."""
    code, schemas = request.param
    connection = world.connection
    connection.exec_driver_sql(REFUSE.replace("%", "%%").replace("'CODE'", f"'{code}'"))
    for table in connection.execute(OWN_TABLES, {"schemas": schemas}).scalars().all():
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    yield schemas is BOTH
    connection.exec_driver_sql(REFUSE_NO_MORE)


class Everything:
    """All that is written outside of the platform's tables."""

    def __init__(self, connection: Connection, posted: Collected) -> None:
        self._connection, self._posted = connection, posted
        self.text = StringIO()

    def add(self, said: object) -> None:
        self.text.write(f"{said}\n")

    def refusals(self) -> int:
        """How many writes were refused by now."""
        return self._connection.exec_driver_sql(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refusals"
        ).scalar_one()

    def assert_quotes_nothing(self) -> None:
        error_reports.flush()
        tracing.flush()
        records = "\n".join(
            str(row)
            for table in self._connection.execute(OWN_TABLES, {"schemas": ["retention"]}).scalars().all()
            for row in self._connection.exec_driver_sql(f"SELECT * FROM {table}")
        )
        said = self.text.getvalue()
        assert PLANTED not in said, said[max(0, said.index(PLANTED) - 2_000) :][:3_000]
        assert PLANTED not in records
        assert PLANTED.encode() not in self._posted.bodies


@pytest.fixture
def everything(world: World, settings: Any) -> Iterator[Everything]:
    """Logs in both of their forms and as a plain handler has them; Sentry and traces, up and running."""
    root = logging.getLogger()
    before, level, structured = root.handlers, root.level, structlog.get_config()
    with collector() as posted:
        caught = Everything(world.connection, posted)
        handlers: list[logging.Handler] = []
        for form in ("json", "console"):
            logs.configure(settings.model_copy(update={"log_format": form, "log_level": "INFO"}))
            handlers += root.handlers
        # A logger that is first used here must not keep this configuration when it is gone.
        structlog.configure(cache_logger_on_first_use=False)
        handlers.append(logging.StreamHandler())
        for handler in handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(caught.text)
        root.handlers = handlers
        posting = {
            "sentry_dsn": f"http://public@127.0.0.1:{posted.port}/7",
            "otel_exporter_otlp_endpoint": f"http://127.0.0.1:{posted.port}",
        }
        reporting = type(settings).model_validate({**settings.model_dump(), **posting})
        error_reports.set_up(reporting)
        tracing.set_up(reporting)
        try:
            yield caught
        finally:
            tracing.flush()
            tracing.set_up(settings)
            sentry_sdk.init()
            error_reports._sdk = None
            root.handlers = before
            root.setLevel(level)
            structlog.configure(**structured)


Arguments = Callable[[World], tuple[Any, ...]]


def nothing(_world: World) -> tuple[Any, ...]:
    return ()


def step_of(kind: str) -> Arguments:
    return lambda world: (str(world.service), kind, days_ago(8).isoformat())


TASKS: Mapping[str, Arguments] = {
    "delete-notifications-older-than-retention": nothing,
    "delete-email-notifications": nothing,
    "delete-sms-notifications": nothing,
    "delete-letter-notifications": nothing,
    "delete-notifications-for-service-and-type": step_of("email"),
    "delete-test-notifications-for-service-and-type": step_of("letter"),
    "sweep-notifications": lambda world: (world.chain, 0),
    "dispatch-retention": nothing,
    "catch-up-missed-night": nothing,
    "delete-user-account": lambda world: (str(world.leaving),),
    "relay-user-deletions": nothing,
    "cleanup-user-sessions": nothing,
    "warn-inactive-users": nothing,
    "mark-inactive-users": nothing,
    "mark-never-completed-accounts": nothing,
    "export-user-data": lambda world: (str(world.export),),
    "relay-user-exports": nothing,
    "remove-expired-exports": nothing,
    "audit-letter-files": nothing,
    "purge-account-records": nothing,
    "archive-history": nothing,
    "verify-archives": nothing,
    "dispatch-policies": nothing,
    "sweep-policy": lambda world: (world.policy_sweep, 0),
}


DO_NOTHING_HERE = {"archive-history", "verify-archives"}
"""There is no bucket for the archive."""


def test_every_registered_task_is_tried(app):
    celery.loader.import_default_modules()
    assert {name for name in celery.tasks if not name.startswith("celery.")} == set(TASKS)


def test_no_task_quotes_what_the_database_refused(world, everything, refusing):
    celery.loader.import_default_modules()
    silent = []
    for name, arguments in TASKS.items():
        before = everything.refusals()
        done = celery.tasks[name].apply(arguments(world))
        everything.add(done.traceback)
        everything.add(repr(done.result))
        if everything.refusals() == before:
            silent.append(name)
    assert set(silent) == DO_NOTHING_HERE or not refusing, silent
    everything.assert_quotes_nothing()


WRITES: Mapping[str, Arguments] = {
    "retention hold": lambda world: (str(world.service), "--reason", "why"),
    "retention pause": lambda _: ("--reason", "why"),
    "retention run": lambda _: (),
    "retention audit": lambda _: (),
    "retention rehearse": lambda world: ("--service", str(world.service), "--type", "email"),
    "accounts delete": lambda world: (str(world.user), "--yes"),
    "sessions purge": lambda _: ("--yes",),
}


@pytest.mark.parametrize("command", WRITES)
def test_no_command_quotes_what_the_database_refused(world, everything, refusing, command):
    ended = world.app.test_cli_runner().invoke(args=[*command.split(), *WRITES[command](world)])
    everything.add(ended.output)
    if ended.exception is not None:
        everything.add("".join(traceback.format_exception(ended.exception)))
    assert (everything.refusals() > 0, ended.exit_code != 0) == (True, True) or not refusing
    everything.assert_quotes_nothing()


def test_no_request_quotes_what_the_database_refused(world, everything, refusing):
    client = world.app.test_client()
    token = {"Authorization": f"Bearer {world.token}"}
    for method, path, body, headers in (
        ("post", "/login", {"email_address": ADDRESS, "password": PASSWORD}, {}),
        ("post", "/logout", {}, token),
        ("post", "/users/me/export", {}, token),
        ("delete", "/users/me", {"password": PASSWORD}, token),
    ):
        before = everything.refusals()
        answer = getattr(client, method)(path, json=body, headers=headers)
        everything.add(answer.text)
        assert (path, everything.refusals() > before, answer.status_code >= 500) == (path, True, True) or not refusing
    everything.assert_quotes_nothing()


def test_an_error_says_what_kind_it_is_and_where(app, world, refusing):
    """And keeps its class, SQLSTATE and the schema's names, for code that asks; the session's do so as well."""
    with pytest.raises(DBAPIError) as caught, db.transaction() as connection:
        connection.execute(text("UPDATE notifications SET updated_at = now()"))
    code = caught.value.orig.pgcode
    assert (refusal_of(caught.value).sqlstate, refusal_of(caught.value).constraint) == (code, "refuse")
    assert f"{code} (refuse)" in str(caught.value)
    assert caught.value.params is None
    db.session.scalars(select(User).where(User.id == world.user)).one().state = "inactive"
    with pytest.raises(DBAPIError) as of_session:
        db.session.flush()
    db.session.rollback()
    said = "".join(traceback.format_exception(caught.value) + traceback.format_exception(of_session.value))
    assert PLANTED not in said


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_what_a_constraint_quotes_is_hidden_at_the_statement_and_at_the_commit(app, connection, deferred):
    connection.exec_driver_sql(f"CREATE TABLE wishes (wish text CONSTRAINT one_each UNIQUE {deferred})")
    connection.exec_driver_sql("GRANT ALL ON wishes TO PUBLIC")
    try:
        with pytest.raises(DBAPIError) as caught, db.transaction() as own:
            own.execute(text("INSERT INTO wishes VALUES (:wish), (:wish)"), {"wish": PLANTED})
    finally:
        connection.exec_driver_sql("DROP TABLE wishes")
    assert str(refusal_of(caught.value)) == "UniqueViolation 23505 (one_each of wishes)"
    assert PLANTED not in "".join(traceback.format_exception(caught.value))


def test_a_value_that_can_not_be_bound_is_hidden_too(app):
    with pytest.raises(StatementError) as caught, db.transaction() as connection:
        connection.execute(select(User.id).where(User.id == PLANTED))
    assert PLANTED not in "".join(traceback.format_exception(caught.value))
