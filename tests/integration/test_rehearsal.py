"""`flask retention rehearse`: a batch goes the way of a step, is compared, and is still there.

Seen to fail: a commit for the rollback, no comparison, rows that history has in a newer version compared all the same,
numbers compared by their text, constraints left to the commit, test notifications taken, the message of PostgreSQL
repeated.
"""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.models.types import EMAIL, LETTER, SMS
from app.retention.rehearsal import rehearse
from tests.factories import days_ago, naive
from tests.variants import application_on, database, rows, with_pipeline

LIVE, HISTORY, COST = "notifications", "notification_history", "cost_in_millicents"
PRIVATE = "someone.private@example.test"


@pytest.fixture(scope="module")
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    with database(environment["DATABASE_URL"], "d") as made:
        yield with_pipeline(made)


@pytest.fixture
def app(engine: Engine, environment: dict[str, str]) -> Iterator[Flask]:
    """On a platform's database, with an S3 that nobody would reach."""
    application = application_on(engine, {**environment, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"})
    with application.app_context():
        yield application
        application.extensions["db.engine"].dispose()


@pytest.fixture
def connection(app: Flask, engine: Engine) -> Iterator[Connection]:
    """An administrator's; every statement of it commits at once."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as administrator:
        yield administrator
        administrator.execute(text("TRUNCATE services, notifications, notification_history CASCADE"))


def everything(connection: Connection) -> list[str]:
    """Both tables, with the transactions that wrote each row."""
    asked = " UNION ALL ".join(f"SELECT t.xmin || ' ' || t.xmax || ' ' || t FROM {one} AS t" for one in (LIVE, HISTORY))
    return sorted(connection.execute(text(asked)).scalars())


def typed(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["retention", "rehearse", *arguments])


def test_a_batch_of_each_type_is_moved_compared_and_still_there(app, connection):
    service = rows.create_service(connection)
    for number in range(3):
        rows.create_notification(connection, service, EMAIL, days_ago(30 + number))
        rows.create_notification(connection, service, LETTER, reference=f"REFERENCE{number}")
        rows.create_notification(connection, service, EMAIL, key_type="test")
    rows.create_notification(connection, service, EMAIL, days_ago(1))
    before = {row.split(" ", 2)[2] for row in everything(connection)}
    emails, letters = rehearse(service, [EMAIL, LETTER])
    assert [(one.rows, one.is_well) for one in (emails, letters)] == [(3, True), (3, True)]
    assert emails.last - emails.first > timedelta(days=1)
    assert {row.split(" ", 2)[2] for row in everything(connection)} == before
    assert len(before) == 10


def test_a_value_that_history_would_have_otherwise_is_told_by_its_column(app, connection):
    service = rows.create_service(connection)
    for cost in ("0.00581", "1.5", "2.00"):
        rows.create_notification(connection, service, EMAIL, **{COST: Decimal(cost)})
    connection.execute(text(f"ALTER TABLE {HISTORY} ALTER {COST} TYPE numeric(10, 2)"))
    try:
        [found] = rehearse(service, [EMAIL])
        said = typed(app, "--service", str(service))
    finally:
        connection.execute(text(f"ALTER TABLE {HISTORY} ALTER {COST} TYPE double precision"))
    assert (found.rows, found.differences) == (3, {COST: 1})
    assert said.exit_code == 1
    assert f"{COST}: of 1 row history would have another value than notifications." in said.stdout


def test_where_history_has_a_newer_version_nothing_is_compared(app, connection):
    service = rows.create_service(connection)
    id_ = rows.create_notification(connection, service, EMAIL, days_ago(30), updated_at=naive(days_ago(20)))
    newer = naive(days_ago(20) + timedelta(hours=1))
    rows.create_history(connection, service, EMAIL, days_ago(30), id=id_, updated_at=newer, reference="another")
    [found] = rehearse(service, [EMAIL])
    assert (found.rows, found.is_well) == (1, True)


def test_what_the_database_refuses_is_told_by_name_and_without_the_row(app, connection):
    service = rows.create_service(connection)
    rows.create_notification(connection, service, EMAIL, client_reference=PRIVATE)
    connection.execute(text(f"ALTER TABLE {HISTORY} ADD CONSTRAINT short CHECK (length(client_reference) < 5)"))
    try:
        [found] = rehearse(service, [EMAIL])
        said = typed(app)
    finally:
        connection.execute(text(f"ALTER TABLE {HISTORY} DROP CONSTRAINT short"))
    assert "CheckViolation (table notification_history, constraint short, SQLSTATE 23514)" in (found.refused or "")
    assert (said.exit_code, "1 row could not be moved: CheckViolation" in said.stdout) == (1, True)
    assert PRIVATE not in said.output


def test_what_is_only_checked_by_a_commit_is_checked(app, connection):
    rows.create_notification(connection, rows.create_service(connection), EMAIL)
    connection.execute(text("CREATE TABLE elsewhere (id uuid PRIMARY KEY)"))
    connection.execute(
        text(
            f"ALTER TABLE {HISTORY} ADD CONSTRAINT late FOREIGN KEY (template_id) REFERENCES elsewhere "
            "DEFERRABLE INITIALLY DEFERRED"
        )
    )
    try:
        [found] = rehearse(types=[EMAIL])
    finally:
        connection.execute(text("DROP TABLE elsewhere CASCADE"))
    assert "ForeignKeyViolation (table notification_history, constraint late" in (found.refused or "")


def test_without_a_service_it_is_the_first_that_has_something(app, connection):
    nothing = rows.create_service(connection)
    assert typed(app).stdout == "Nothing is past its retention, so that nothing could be rehearsed.\n"
    something = rows.create_service(connection)
    rows.create_notification(connection, nothing, SMS, days_ago(1))
    rows.create_notification(connection, something, SMS)
    said = typed(app)
    assert (said.exit_code, said.stdout.count(str(something)), str(nothing) in said.stdout) == (0, 1, False)
    assert "History would have every column as it is." in said.stdout
    assert rows.ids(connection, HISTORY) == set()


def test_a_service_that_is_not_there_is_said_in_a_sentence(app, connection):
    ended = typed(app, "--service", "00000000-0000-0000-0000-00000000dead")
    assert (ended.exit_code, type(ended.exception)) == (1, SystemExit)
    assert "there is no service" in ended.stderr
