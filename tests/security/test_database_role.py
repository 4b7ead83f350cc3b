"""The role of deploy/postgres: everything that the pipeline does is possible under it, and nothing else is.

The whole suite runs as a member of that role (tests/least.py). Here each privilege of the file is taken away by itself,
and something must be refused. Seen to fail: a GRANT too many (UPDATE on retention.holds, and SELECT on key_types: the
walk went through without it, and what the role may not do could be done), and one too few.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from alembic import command
from flask import Flask
from psycopg2 import errors
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import ProgrammingError

from app import clock
from app.celery import celery, nightly_tasks
from app.config import psycopg2_url
from app.dao import blocked_dao, failures_dao, notifications_dao, policy_sweeps_dao, traffic_dao
from app.dao.failures_dao import Failure
from app.dao.policy_sweeps_dao import Held
from app.db import db
from app.models import Notification
from app.models.types import NOTIFICATION_TYPES
from app.policies import checks
from app.policies.registry import registry
from app.retention import nightly
from app.retention.readiness import check_migrations
from app.retention.tools import tools
from app.revisions import alembic_config
from app.state.asked import findings
from app.state.judgement import EXIT_CODES
from app.state.privileges import PRIVILEGES
from app.state.server import SEQUENCES
from tests.audits import key_of, put, reference
from tests.audits import run as audit_run
from tests.concurrency import background, wait_until, waiting_for_locks
from tests.factories import (
    chains,
    create_history,
    create_letter,
    create_notification,
    create_service,
    days_ago,
    deferred,
    history,
    live,
)
from tests.integration.night import broken_buckets, dispatch, drain, make_due
from tests.least import ROLE, ROLE_FILE, NotAllowed, worker_login
from tests.policies import work_off
from tests.servers import Servers, new_database

LOGIN = "_login"
GRANT = re.compile(rf"GRANT ((?:[A-Z]+(?: \([^)]+\))?(?:, )?)+) ON (.+?) TO {ROLE}\b")


class Refused(BaseException):
    """PostgreSQL refused something. Not an Exception, which the product could take care of."""


def privileges() -> list[tuple[str, str]]:
    """Each privilege of the file by itself: what, and on what."""
    lines = [line for line in ROLE_FILE.read_text().splitlines() if not line.startswith("--")]
    found = [match.groups() for line in lines if (match := GRANT.search(line))]
    assert len(found) == sum("GRANT" in line for line in lines)
    return [(what, on) for listed, on in found for what in re.split(r", (?![^(]*\))", listed)]


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {
        "FAN_OUT_SPREAD_SECONDS": "0",
        "S3_BUCKET_INVALID_PDF": "there-is-no-such-bucket",
        "LETTER_FOLDER_INDEX": "true",
        "AUDIT_MARGIN_HOURS": "0.000001",
        "ACCOUNTS_ENABLED": "false",
        "SESSIONS_ENABLED": "false",
    }


@pytest.fixture
def role(environment: dict[str, str]) -> str:
    """The group that the application's login is a member of."""
    return (make_url(environment["DATABASE_URL"]).username or "").removesuffix(LOGIN)


@pytest.fixture(autouse=True)
def only_this_role(connection: Connection, role: str) -> Iterator[None]:
    """The login is not a member of the accounts' group meanwhile."""
    connection.exec_driver_sql(f"REVOKE {role}_accounts FROM {role}{LOGIN}")
    yield
    connection.exec_driver_sql(f"GRANT {role}_accounts TO {role}{LOGIN}")


@pytest.fixture(autouse=True)
def no_message_stays(app: Flask) -> Iterator[None]:
    yield
    celery.control.purge()


@pytest.fixture
def refusals(app: Flask) -> list[str]:
    """What PostgreSQL has refused the application. A schema that may not be used hides its tables."""
    seen: list[str] = []

    def note(context: Any) -> None:
        code = getattr(context.original_exception, "pgcode", None)
        if code in ("42501", "42P01") or "permission denied" in str(context.original_exception):
            seen.append(str(context.original_exception))

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
    name = connection.engine.url.database
    on = on.replace("%I", f'"{name}"')
    connection.exec_driver_sql(f"REVOKE {what} ON {on} FROM {role}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"GRANT {what} ON {on} TO {role}")


def walk(app: Flask, connection: Connection, s3: Any) -> None:
    """All that the pipeline can do: a night to its end, deferrals, receipts, and every command."""
    runner = app.test_cli_runner()

    def flask(*arguments: Any) -> None:
        ended = runner.invoke(args=["retention", *map(str, arguments)])
        assert ended.exit_code in (0, *EXIT_CODES.values()), ended.output

    service = create_service(connection, email=5)
    moves = {create_notification(connection, service), create_letter(connection, s3, service)}
    moves |= {create_history(connection, id=create_notification(connection, service), service_id=service)}
    moves.add(create_letter(connection, s3, create_service(connection)))  # two services: their folder is indexed
    create_notification(connection, service, key_type="test")
    create_letter(connection, s3, service, key_type="test")
    ambiguous = create_letter(connection, s3, service, reference="A.B", file=False)
    of_no_bucket = create_letter(connection, s3, service, file=False, notification_status="validation-failed")
    stays = {
        ambiguous,
        of_no_bucket,
        create_letter(connection, s3, service, file=False, notification_status="created"),
        create_notification(connection, service, "sms", days_ago(1)),
    }
    flask("plan")
    flask("run", "--type", "email")
    for _ in range(2):
        night = nightly.start_run()
        for notification_type in NOTIFICATION_TYPES:
            drain(nightly.fan_out(notification_type, night))
        make_due(connection)
        dispatch()
    assert (history(connection), live(connection)) == (moves, stays)
    assert (set(deferred(connection)), len(broken_buckets(connection))) == ({ambiguous}, 1)
    with db.transaction() as own:
        for _ in range(2):
            blocked_dao.note(own, ["letter"], {"letter": ("something is wrong", "fix it")}, clock.now())
        failures_dao.record(
            own, Failure("KeyError"), night=night, policy="sms", chain_id=1, step=0, attempt=1, service_id=None,
            now=clock.now(),
        )  # fmt: skip

    connection.execute(
        text("UPDATE retention.chains SET state = 'resting', reason = 'missing-files', missing_in = 'a-bucket'")
    )
    for arguments in (
        ("accept-missing", "--yes"),
        ("hold", service, "--reason", "an inquiry"),
        ("lift", service),
        ("pause", "--reason", "a migration"),
        ("resume",),
        ("retry",),
        ("deferred",),
        ("status",),
    ):
        flask(*arguments)
    assert {chain["state"] for chain in chains(connection)} == {"waiting"}
    assert notifications_dao.update_notification_status(min(stays), "delivered") == "notifications"
    assert notifications_dao.update_notification_status(min(moves), "delivered") == "notification_history"
    work_policies(connection)
    put(s3, tools().naming.buckets.letters, key_of(reference()))
    for deletes in (False, True):
        audited, _ = audit_run(deletes=deletes)
    assert audited.deleted_files == 1
    nightly_tasks.delete_notifications_older_than_retention.apply(throw=True)
    nightly_tasks.dispatch_retention.apply(throw=True)
    check_migrations()


def work_policies(connection: Connection) -> None:
    """The policies that are built in, with something to remove, and a row that is held back."""
    for _ in range(2):
        with db.transaction() as own:
            policy_sweeps_dao.defer(own, "policy-steps", {"0": Held(None, "AccessDenied")}, days_ago(9), 60)
    connection.exec_driver_sql(OLD_RECORDS_OF_POLICIES)
    for name in ("policy-steps", "policy-sweeps"):
        work_off(name)
    assert connection.exec_driver_sql("SELECT count(*) FROM retention.policy_sweeps").scalar_one() == 2
    with db.transaction() as own:
        assert policy_sweeps_dao.deferred(own, None, 10) == []
        policy_sweeps_dao.retry(own, None, clock.now())


OLD_RECORDS_OF_POLICIES = """
INSERT INTO retention.policy_sweeps (policy, period, started_at, due_at, state, finished_at)
VALUES ('old', '2020-01-01', '2020-01-01', '2020-01-01', 'ended', '2020-01-01');
INSERT INTO retention.policy_steps (sweep_id, policy, step, began_at, seconds, rows, files, missing, deferred, services,
                                    removed_of)
VALUES (1, 'old', 0, '2020-01-01', 1, 1, 0, 0, 0, '{}', '{}')
"""


def test_everything_that_the_pipeline_does_is_possible_under_the_role(app, connection, s3, refusals):
    walk(app, connection, s3)
    assert (refusals, said_of_privileges()) == ([], [])


@pytest.mark.parametrize(("what", "on"), privileges(), ids=lambda value: value)
def test_each_privilege_is_needed(app, connection, s3, role, refusals, ends_when_refused, what, on):
    """The walk ends with the first refusal, whoever would have handled it."""
    with without(connection, role, what, on):
        with suppress(Refused, Exception):
            walk(app, connection, s3)
        assert refusals or said_of_privileges(), f"nothing needs {what} ON {on}"


def said_of_privileges() -> list[str]:
    """What is not tried at all where a precondition, or the check of a policy, says that it would be refused."""
    with db.transaction(read_only=True) as connection:
        bound = checks.check(connection, registry().policies.values())
        return [str(problem) for one in bound for problem in one.problems] + [
            finding.sentence
            for finding in findings(connection)
            if finding.about in (PRIVILEGES, SEQUENCES) or "grant the role USAGE" in finding.fix
        ]


@pytest.mark.parametrize("may_read_statistics", [True, False])
def test_that_live_queries_wait_is_seen_only_with_pg_read_all_stats(
    app, connection, administrator_engine, role, may_read_statistics
):
    create_service(connection)
    with background(app) as start, administrator_engine.begin() as holding:
        holding.execute(text("UPDATE services SET active = true"))
        waiting = start(_update_services, administrator_engine)
        wait_until(lambda: waiting_for_locks(connection) == 1)
        with _statistics(connection, role, may_read_statistics), db.transaction(read_only=True) as own:
            seen = traffic_dao.look(own).queries_waiting_for_locks
    waiting.result()
    assert seen == int(may_read_statistics)


def _update_services(engine: Engine) -> None:
    with engine.begin() as waiting:
        waiting.execute(text("UPDATE services SET active = true"))


@contextmanager
def _statistics(connection: Connection, role: str, may_read: bool) -> Iterator[None]:
    if not may_read:
        connection.exec_driver_sql(f"REVOKE pg_read_all_stats FROM {role}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"GRANT pg_read_all_stats TO {role}")


NOT_ALLOWED = [
    "TRUNCATE notifications",
    "INSERT INTO notifications (id) VALUES (gen_random_uuid())",
    "UPDATE notifications SET \"to\" = 'someone'",
    "UPDATE notifications SET _personalisation = NULL",
    "UPDATE notifications SET created_at = now()",
    'SELECT "to" FROM notifications',
    "SELECT normalised_to FROM notifications",
    "SELECT _personalisation FROM notifications",
    "SELECT * FROM notifications",
    "DELETE FROM notification_history",
    "TRUNCATE notification_history",
    "DROP TABLE notification_history",
    "ALTER TABLE notifications DISABLE TRIGGER ALL",
    "UPDATE services SET active = false",
    "DELETE FROM services",
    "UPDATE service_data_retention SET days_of_retention = 1",
    "INSERT INTO service_data_retention (id) VALUES (gen_random_uuid())",
    "SELECT FROM key_types",
    "UPDATE alembic_version SET version_num = ''",
    "UPDATE retention.runs SET started_at = now()",
    "UPDATE retention.steps SET moved = 0",
    "UPDATE retention.intents SET chain_id = 1",
    "UPDATE retention.holds SET reason = ''",
    "UPDATE retention.turns SET name = ''",
    "DELETE FROM retention.turns",
    "UPDATE retention.accepted_missing SET accepted_by = ''",
    "DELETE FROM retention.audit_findings",
    "DELETE FROM retention.audit_deletions",
    "UPDATE retention.indexed_files SET rest = ''",
    "TRUNCATE retention.folder_counts",
    "TRUNCATE retention.chains",
    "SELECT nextval('retention.chains_id_seq')",
    "CREATE TABLE public.mine (id integer)",
    "CREATE TABLE retention.mine (id integer)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "SELECT FROM pg_authid",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY services TO PROGRAM 'cat'",
    "SET ROLE pg_read_all_data",
    "SET session_replication_role = 'replica'",
    "ALTER SYSTEM SET log_statement = 'all'",
]


@pytest.mark.parametrize("statement", NOT_ALLOWED)
def test_nothing_else_is_possible_under_the_role(app, statement):
    engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ProgrammingError) as refused:
        connection.exec_driver_sql(statement)
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


def test_the_role_cannot_log_in_and_has_no_attribute_that_opens_doors(connection, role):
    attributes = "rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    row = connection.exec_driver_sql(f"SELECT {attributes} FROM pg_roles WHERE rolname = '{role}'").one()
    assert set(row) == {False}


def test_the_file_can_be_applied_again_and_holds_no_password(connection, role):
    before = _privileges_of(connection, role)
    connection.exec_driver_sql(ROLE_FILE.read_text().replace(ROLE, role).replace("%", "%%"))
    assert _privileges_of(connection, role) == before
    assert "PASSWORD '" not in ROLE_FILE.read_text().upper()


def _privileges_of(connection: Connection, role: str) -> set[tuple[Any, ...]]:
    rows = connection.execute(
        text(
            "SELECT table_schema, table_name, privilege_type FROM information_schema.table_privileges "
            "WHERE grantee = :role"
        ),
        {"role": role},
    )
    return {tuple(row) for row in rows}


def test_the_roles_of_the_tests_are_gone_with_them(started_servers: Servers, connection):
    with new_database(started_servers.administrator_url) as url:
        command.upgrade(alembic_config(psycopg2_url(url)), "heads")
        with worker_login(url) as worker_url:
            made = (make_url(worker_url).username or "").removesuffix(LOGIN)
            assert _roles(connection, made) == 5, "four groups and their member"
        assert _roles(connection, made) == 0


def _roles(connection: Connection, name: str) -> int:
    counted = connection.execute(
        text("SELECT count(*) FROM pg_roles WHERE starts_with(rolname, :name)"), {"name": name}
    )
    return int(counted.scalar_one())


def test_a_user_that_may_not_make_roles_is_told_so(environment):
    with pytest.raises(NotAllowed, match="Give one that may create roles"), worker_login(environment["DATABASE_URL"]):
        pytest.fail("the application's own role could make roles")


def test_a_person_may_ask_for_notifications_but_not_who_got_them(app, connection):
    """As in `flask shell`. Seen to fail: the recipient and what was said loaded with every row."""
    create_notification(connection, create_service(connection))
    assert db.session.query(Notification).count() == 1
    assert db.session.query(Notification).filter_by(notification_type="sms").count() == 0
    assert db.session.query(Notification.id, Notification.created_at).count() == 1
    found = db.session.query(Notification).one()
    assert found.notification_type == "email"
    with pytest.raises(ProgrammingError):
        found.to  # noqa: B018 - it is loaded when it is asked for
