"""`flask retention rehearse`: a batch goes the way of a step, is compared, and is still there.

Seen to fail: a commit for the rollback, no comparison, rows that history has in a newer version compared all the same,
numbers compared by their text, constraints left to the commit, test notifications taken, the message of PostgreSQL
repeated, or left out where it holds no value; the first service taken whatever can go, letters without files looked for
as those with, two retentions left to fail; one refused row taken for all of its batch.
"""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Connection, Engine, text

from app.models.types import EMAIL, LETTER, SMS
from app.retention.rehearsal import rehearse
from tests.emptying import empty
from tests.factories import days_ago, naive
from tests.variants import application_on, database, rows, with_pipeline

LIVE, HISTORY, COST = "notifications", "notification_history", "cost_in_millicents"
UNIQUE_OF_RETENTIONS = text(
    "SELECT conname FROM pg_constraint WHERE conrelid = 'service_data_retention'::regclass AND contype = 'u'"
)
ANOTHER_RETENTION = text(
    "INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at) "
    "SELECT :id, service_id, notification_type, 5, created_at FROM service_data_retention"
)
TOO_LARGE = "3000000000"
PRIVATE = "someone.private@example.test"


@pytest.fixture(scope="module")
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    with database(environment["DATABASE_URL"], "va-notify") as made:
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
        empty(administrator, ["services", LIVE, HISTORY])


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


def test_single_rows_that_the_database_refuses_are_told_by_reason_and_number_and_the_others_would_go(app, connection):
    service = rows.create_service(connection)
    for number in range(12):
        rows.create_notification(
            connection, service, EMAIL, days_ago(30 + number), client_reference=PRIVATE if number in (3, 8) else "ok"
        )
    before = {row.split(" ", 2)[2] for row in everything(connection)}
    connection.execute(text(f"ALTER TABLE {HISTORY} ADD CONSTRAINT short CHECK (length(client_reference) < 5)"))
    try:
        [found] = rehearse(service, [EMAIL])
        said = typed(app, "--type", EMAIL)
    finally:
        connection.execute(text(f"ALTER TABLE {HISTORY} DROP CONSTRAINT short"))
    why = "CheckViolation (table notification_history, constraint short, SQLSTATE 23514)"
    assert (found.refused_rows, found.going, found.not_tried, found.is_well) == ({why: 2}, 10, 0, False)
    assert f"2 rows could not be moved: {why}." in said.stdout
    assert "the other 10 rows from" in said.stdout
    assert (said.exit_code, PRIVATE in said.output) == (1, False)
    assert {row.split(" ", 2)[2] for row in everything(connection)} == before


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


def test_a_service_of_which_nothing_can_go_is_not_taken_for_all(app, connection):
    """Its rows are test rows, or not final, or deferred; the next one's can go, and history refuses them."""
    stays, goes = sorted(rows.create_service(connection) for _ in range(2))
    rows.create_notification(connection, stays, LETTER, notification_status="created")
    rows.create_notification(connection, stays, EMAIL, key_type="test")
    rows.create_notification(connection, goes, LETTER)
    connection.execute(text(f"ALTER TABLE {HISTORY} ADD CONSTRAINT never CHECK (false)"))
    try:
        [emails, letters] = rehearse()
        refused = typed(app)
    finally:
        connection.execute(text(f"ALTER TABLE {HISTORY} DROP CONSTRAINT never"))
    assert (emails.service_id, emails.rows, emails.is_well) == (stays, 0, True)
    assert (letters.service_id, letters.rows, letters.is_well) == (goes, 1, False)
    assert refused.exit_code == 1
    nothing = typed(app, "--type", EMAIL)
    assert (nothing.exit_code, "nothing can go now" in nothing.stdout) == (1, True)
    assert "Nothing was rehearsed. What stays, and why, is in flask retention plan." in nothing.stderr


REFUSALS = {
    "too long": (
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE varchar(3)",
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE varchar",
        "1 row could not be moved: StringDataRightTruncation (value too long for type character varying(3), "
        "SQLSTATE 22001); flask retention adopt names",
    ),
    "no number": (
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE integer USING NULL",
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE varchar",
        "InvalidTextRepresentation (SQLSTATE 22P02); flask retention adopt names",
    ),
    "too large a number": (
        f"UPDATE {LIVE} SET client_reference = '{TOO_LARGE}'; "
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE integer USING NULL",
        f"ALTER TABLE {HISTORY} ALTER client_reference TYPE varchar",
        "NumericValueOutOfRange (SQLSTATE 22003); flask retention adopt names",
    ),
    "a trigger": (
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE USING MESSAGE = OLD.client_reference, ERRCODE = '42501'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
        "DROP FUNCTION refuse CASCADE",
        "InsufficientPrivilege (PL/pgSQL function refuse() line 1 at RAISE, SQLSTATE 42501).",
    ),
    "a column that is not there": (
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN NEW.later := 1; RETURN NEW; END $$;"
        f"CREATE TRIGGER late BEFORE INSERT ON {HISTORY} FOR EACH ROW EXECUTE FUNCTION late()",
        "DROP FUNCTION late CASCADE",
        'UndefinedColumn (record "new" has no field "later", PL/pgSQL function late() line 1 at assignment',
    ),
}


@pytest.mark.parametrize(("broken", "fixed", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_can_be_done_about_it_and_no_value(app, connection, broken, fixed, expected):
    rows.create_notification(connection, rows.create_service(connection), EMAIL, client_reference=PRIVATE)
    connection.exec_driver_sql(broken)
    try:
        said = typed(app, "--type", EMAIL)
    finally:
        connection.exec_driver_sql("TRUNCATE notifications CASCADE")
        connection.exec_driver_sql(fixed)
    assert expected in said.stdout
    assert said.exit_code == 1
    assert PRIVATE not in said.output
    assert TOO_LARGE not in said.output


def test_letters_without_files_go_as_a_step_would_have_them(connection, engine, environment):
    """Without the columns that only a search for files needs."""
    rows.create_notification(connection, rows.create_service(connection), LETTER)
    for table in (LIVE, HISTORY):
        connection.execute(text(f"ALTER TABLE {table} RENAME sent_at TO sent_on"))
    application = application_on(engine, environment, LETTER_FILES="no-files")
    try:
        with application.app_context():
            [found] = rehearse(types=[LETTER])
    finally:
        application.extensions["db.engine"].dispose()
        for table in (LIVE, HISTORY):
            connection.execute(text(f"ALTER TABLE {table} RENAME sent_on TO sent_at"))
    assert (found.rows, found.is_well) == (1, True), found.refused


def test_two_retentions_of_a_service_and_type_are_said_and_the_other_types_rehearsed(app, connection):
    service = rows.create_service(connection, email=3)
    for notification_type in (EMAIL, SMS):
        rows.create_notification(connection, service, notification_type)
    unique = connection.execute(UNIQUE_OF_RETENTIONS).scalar_one()
    connection.exec_driver_sql(f"ALTER TABLE service_data_retention DROP CONSTRAINT {unique}")
    try:
        connection.execute(ANOTHER_RETENTION, {"id": uuid4()})
        said = typed(app)
    finally:
        connection.exec_driver_sql("TRUNCATE service_data_retention")
        connection.exec_driver_sql(
            f"ALTER TABLE service_data_retention ADD CONSTRAINT {unique} UNIQUE (service_id, notification_type)"
        )
    assert said.exit_code == 1
    assert f"there are two retentions of service {service} for email; delete all but the right one" in said.stdout
    assert "sms of service" in said.stdout
    assert "History would have every column as it is." in said.stdout


def test_a_service_that_is_not_there_is_said_in_a_sentence(app, connection):
    ended = typed(app, "--service", "00000000-0000-0000-0000-00000000dead")
    assert (ended.exit_code, type(ended.exception)) == (1, SystemExit)
    assert "there is no service" in ended.stderr
