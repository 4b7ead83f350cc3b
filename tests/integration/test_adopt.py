"""`flask retention adopt`: the same questions on every variant and on our own schema.

Seen to fail: the transaction of `look` made read write, a finding's level changed, each check taken out of the report,
casts left out, the index that is there called exact, CASCADE deferred, the exit code of what is missing made 0, a GRANT
taken out and one added, the preset's rule taken from the settings; each kind of harm that a cast does left out, a
domain taken for what it is made of, our own database not known for ours, the column left out by which c is known;
policies judged for whoever asks, for the group though it has a login, for an owner who is in it.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from app import config, create_app
from app.adopt import choice, policy, report
from app.dao import catalogue_dao
from app.dao.catalogue import HISTORY, NOTIFICATIONS, PLATFORM_TABLES
from app.dao.copying import How, copies
from app.db import db
from app.state import casts
from app.state.findings import Finding, Level
from tests.variants import ALL, OWN, database, rows

NIGHT = date(2026, 1, 15)
BY_TYPE = ("service_id", "notification_type", "created_at")


@pytest.fixture(scope="module", params=ALL)
def named(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[tuple[str, Engine]]:
    """Each database, without any table of the pipeline's own, and a few rows in it."""
    with database(environment["DATABASE_URL"], request.param) as engine:
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS retention CASCADE"))
            service = rows.create_service(connection)
            for number in range(10):
                rows.create_notification(connection, service, "sms" if number < 4 else "email")
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("ANALYZE"))
        yield request.param, engine


@pytest.fixture
def adopting(named: tuple[str, Engine], environment: dict[str, str]) -> Iterator[Flask]:
    """The application on such a database, with its platform's preset."""
    name, engine = named
    application = application_on(engine, environment, PLATFORM_PRESET=name)
    with application.app_context():
        yield application
        application.extensions["db.engine"].dispose()


@pytest.fixture(scope="module")
def of_va_notify(environment: dict[str, str]) -> Iterator[Engine]:
    with database(environment["DATABASE_URL"], "va-notify") as engine:
        yield engine


@pytest.fixture
def changed(of_va_notify: Engine) -> Iterator[Connection]:
    """va-notify's database, for tests that change it and roll back."""
    with of_va_notify.connect() as connection:
        yield connection
        connection.rollback()


def application_on(engine: Engine, environment: dict[str, str], **variables: str) -> Flask:
    url = engine.url.render_as_string(hide_password=False)
    return create_app(config.load({**environment, "DATABASE_URL": url, **variables}))


def settings_of(environment: dict[str, str], **variables: str) -> config.Settings:
    return config.load({**environment, **variables})


def adopt(application: Flask, *arguments: str) -> Any:
    return application.test_cli_runner().invoke(args=["retention", "adopt", *arguments])


def said(findings: report.Adoption, level: Level) -> dict[str, str]:
    """Sentences by what they are about; the last one of each."""
    return {one.about: one.sentence for one in findings.findings if one.level is level}


def everything(connection: Connection) -> list[Any]:
    """What is in the database: relations, columns, constraints, indexes, privileges and rows."""
    catalogues = (
        "SELECT oid, relname, relacl::text, reltuples, relhasindex FROM pg_class WHERE oid > 16383 ORDER BY oid",
        "SELECT attrelid, attname, atttypid, attacl::text FROM pg_attribute WHERE attrelid > 16383 ORDER BY 1, attnum",
        "SELECT oid, conname FROM pg_constraint ORDER BY oid",
        "SELECT nspname, nspacl::text FROM pg_namespace ORDER BY 1",
        "SELECT xmin::text, ctid::text, id FROM notifications ORDER BY id",
        "SELECT xmin::text, id FROM services ORDER BY id",
    )
    return [connection.execute(text(statement)).all() for statement in catalogues]


def test_a_platform_of_the_family_lacks_nothing(adopting):
    asked = adopt(adopting)
    assert (asked.exit_code, asked.exception) == (0, None)
    assert "Missing" not in asked.stdout
    assert "nothing is missing" in asked.stdout


def test_it_looks_in_a_read_only_transaction_and_changes_nothing(named, adopting):
    _, engine = named
    with engine.connect() as connection:
        before = everything(connection)
    states: list[tuple[str, str]] = []

    def note_state(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        with cursor.connection.cursor() as beside:
            beside.execute("SHOW transaction_read_only")
            states.append((beside.fetchone()[0], statement))

    event.listen(db.engine, "after_cursor_execute", note_state)
    assert adopt(adopting).exit_code == 0
    read_write = [statement for state, statement in states if state == "off"]
    assert [statement for statement in read_write if "set_config" not in statement] == []
    assert len(states) - len(read_write) >= 8
    with engine.connect() as connection:
        assert everything(connection) == before


def test_every_column_of_history_moves_by_name_and_personal_data_stays_behind(named, adopting):
    _, engine = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    with engine.connect() as connection:
        columns = set(rows.table(connection, HISTORY).columns.keys())
    assert {copy.column for copy in found.copies} == columns
    assert {copy.how for copy in found.copies} == {How.AS_IT_IS}
    assert {"to", "normalised_to", "_personalisation", "reply_to_text"} <= set(found.stays)
    assert columns & set(found.stays) == set()


def test_the_index_that_serves_is_named_and_so_is_the_one_that_would_serve_better(named, adopting):
    name, _ = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    (finding,) = [one for one in found.findings if "the choice uses index" in one.sentence]
    if name in (OWN, "govuk-notify"):
        assert "which is the one for it" in finding.sentence
        assert finding.fix == ""
    else:
        assert "ix_notifications_service_created_at (service_id, created_at)" in finding.sentence
        assert "1.7 for each email, 2.5 for each sms" in finding.sentence
        assert finding.fix.endswith(
            "CREATE INDEX CONCURRENTLY ix_notifications_service_id_notification_type_created_at "
            "ON public.notifications (service_id, notification_type, created_at);"
        )


def test_what_refers_to_notifications_has_a_plan(named, adopting):
    name, _ = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    assert {plan.key.table: plan.action for plan in found.referring} == {
        "gc-notify": {"scheduled_notifications": "defer"},
        "va-notify": {"scheduled_notifications": "defer", "recipient_identifiers": "cascade"},
    }.get(name, {})
    look = said(found, Level.LOOK)
    if name == "va-notify":
        about = "recipient_identifiers.recipient_identifiers_notification_id_fkey"
        assert "its rows go with their notification, also for those that move to history" in look[about]
    if found.referring:
        about = "scheduled_notifications.scheduled_notifications_notification_id_fkey"
        assert "stays, is deferred and reported" in look[about]


def test_statuses_that_one_side_lacks_are_named_with_what_follows(named, adopting):
    name, _ = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    of_statuses = [
        one
        for one in found.findings
        if one.about == "notifications.notification_status" and one.sentence.startswith("there is ")
    ]
    unknown = "there is a status that the pipeline does not know: {}. No row's status is asked for before it goes"
    expected = {
        "us-notify": {
            ("note", "there is no status returned-letter: no receipt can write it, and nothing else names it")
        },
        "va-notify": {("note", unknown.format(status)) for status in ("pii-check-failed", "preferences-declined")},
    }.get(name, set())
    assert {(one.level.value, one.sentence) for one in of_statuses} == expected


def test_what_a_platform_does_with_unknown_statuses_is_said_and_compared(environment):
    """va-notify's database, adopted with our own rules instead of its own."""
    with database(environment["DATABASE_URL"], "va-notify") as engine:
        application = application_on(engine, environment)
        with application.app_context():
            found = report.look(application.extensions["settings"], NIGHT, "va-notify")
            application.extensions["db.engine"].dispose()
    looks = said(found, Level.LOOK)
    assert looks["LETTERS_IN_ANY_STATUS"].startswith("LETTERS_IN_ANY_STATUS is False, and va-notify does True today")
    assert "pii-check-failed. A letter in it stays, and is reported" in " ".join(one.sentence for one in found.findings)


def test_enums_are_said_to_be_compared_as_what_they_are(named, adopting):
    name, _ = named
    notes = " ".join(
        one.sentence for one in report.look(adopting.extensions["settings"], NIGHT).findings if one.level is Level.NOTE
    )
    assert "notification_type is the enum " in notes
    for column, enum in (("key_type", "key_types"), ("notification_status", "notify_statuses")):
        assert (f"{column} is the enum {enum} (" in notes) == (name == "us-notify")


def test_under_its_own_preset_a_platform_keeps_data_as_long_as_before(named, adopting):
    name, _ = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    assert not any(one.differs for one in found.policies)
    assert "no night of the coming year keeps data longer or shorter" in said(found, Level.NOTE)["cut-off"]
    assert ("history" in said(found, Level.NOTE)) == (name != OWN)


def test_whose_rules_are_followed_today_is_asked_where_nobody_said_it(named, environment):
    name, engine = named
    application = application_on(engine, environment)
    with application.app_context():
        found = report.look(application.extensions["settings"], NIGHT)
        application.extensions["db.engine"].dispose()
    asked = {one.sentence for one in found.findings if one.about == "PLATFORM_PRESET"}
    alike = {"gc-notify": "ses_feedback_id", "us-notify": "carrier", "va-notify": "provider_updated_at"}.get(name)
    assert asked == (
        ({NOT_KNOWN} if name != OWN else set())
        | ({f"these tables look like {name}'s, which alone has {alike} in notifications"} if alike else set())
    )
    assert (found.preset is None, found.policies == [], "cut-off" in said(found, Level.NOTE)) == (
        (False, False, True) if name == OWN else (True, True, False)
    )


NOT_KNOWN = "whose rules are followed today is not known, so nothing was compared"


def test_adopting_with_our_own_rules_says_by_how_much_data_is_kept_longer_or_shorter(named, environment):
    name, engine = named
    application = application_on(engine, environment)
    asked = adopt(application, "--preset", name, "--json")
    application.extensions["db.engine"].dispose()
    found = [one["sentence"] for one in json.loads(asked.stdout)["findings"] if one["about"] == "cut-off"]
    amounts = [sentence.partition(": data is kept ")[2] for sentence in found]
    assert amounts == {
        # An hour more of the day while the clocks are forward, and the last microsecond of it in winter.
        "gc-notify": ["1 day and 1 hour longer than before", "1 day longer than before"],
        "us-notify": ["1 hour longer than before"],
        "va-notify": ["5 hours longer than before", "4 hours longer than before"],
    }.get(name, [""])


def test_as_json_it_is_one_document_without_any_rows_content(adopting):
    document = json.loads(adopt(adopting, "--json").stdout)
    assert document["can_run"] is True
    assert {table["table"] for table in document["tables"]} == set(PLATFORM_TABLES)
    assert "someone.private@example.test" not in json.dumps(document)
    assert document["policies"]


@pytest.fixture
def granted(named: tuple[str, Engine], adopting: Flask) -> Iterator[Connection]:
    """A connection as a role that has the printed GRANTs and nothing else; rolled back."""
    _, engine = named
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE retention_worker"))
        for default in ("USAGE ON SCHEMA public", f'TEMPORARY ON DATABASE "{engine.url.database}"'):
            connection.execute(text(f"REVOKE {default} FROM PUBLIC"))
        for statement in report.look(adopting.extensions["settings"], NIGHT).grants:
            connection.exec_driver_sql(statement)
        connection.execute(text("SET LOCAL ROLE retention_worker"))
        yield connection
        connection.rollback()


def test_the_printed_grants_are_enough_for_a_step(granted, adopting):
    """What a step does to the platform's tables, with the columns that were found to move."""
    found = report.look(adopting.extensions["settings"], NIGHT)
    columns = ", ".join(copy.expression for copy in found.copies)
    granted.execute(text("UPDATE notifications SET notification_status = notification_status, updated_at = now()"))
    granted.execute(text(f"CREATE TEMP TABLE batch AS SELECT ctid AS address, {columns} FROM notifications FOR UPDATE"))
    inserted = f"INSERT INTO notification_history ({columns}) SELECT {columns} FROM batch"
    for conflict in ("", " ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at"):
        assert granted.execute(text(inserted + conflict)).rowcount == 10
    granted.execute(
        text("SELECT days_of_retention FROM service_data_retention JOIN services ON service_id = services.id")
    )
    for plan in found.referring:
        if plan.action != "cascade":
            granted.execute(text(f"SELECT count(*) FROM {plan.key.table}"))
    gone = granted.execute(text("DELETE FROM notifications WHERE ctid = ANY (ARRAY(SELECT address FROM batch))"))
    assert gone.rowcount == 10


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO notifications SELECT * FROM notifications",
        "UPDATE notifications SET reference = ''",
        "TRUNCATE notifications",
        "DELETE FROM notification_history",
        "UPDATE services SET active = false",
        "DELETE FROM service_data_retention",
        "CREATE TABLE public.made (id int)",
        "CREATE SCHEMA made",
    ],
)
def test_the_printed_grants_allow_nothing_else(granted, statement):
    with pytest.raises(ProgrammingError, match="permission denied"):
        granted.execute(text(statement))


@pytest.mark.parametrize("name", ["gc-notify", "va-notify"])
def test_rows_that_refer_may_be_deleted_only_if_that_is_the_plan(environment, name):
    with database(environment["DATABASE_URL"], name) as engine, engine.connect() as connection:
        catalogue = catalogue_dao.read(connection)
    on_scheduled = [
        [one for one in report.explain(catalogue, settings, NIGHT).grants if "scheduled_notifications" in one]
        for settings in (
            settings_of(environment, PLATFORM_PRESET=name),
            settings_of(environment, REFERRING_ROWS='{"scheduled_notifications": "delete"}'),
        )
    ]
    assert on_scheduled == [
        ["GRANT SELECT ON public.scheduled_notifications TO retention_worker;"],
        ["GRANT SELECT, DELETE ON public.scheduled_notifications TO retention_worker;"],
    ]


# What is wrong with a database of va-notify's, the level of the finding, what it is about, and a part of its sentence.
WRONG = [
    (
        "ALTER TABLE notifications DROP COLUMN reference; ALTER TABLE notification_history DROP COLUMN reference",
        "missing",
        "notifications.reference",
        "table notifications has no column reference: it names a letter's files",
    ),
    (
        "ALTER TABLE service_data_retention RENAME TO retention_of_services",
        "missing",
        "service_data_retention",
        "there is no table service_data_retention in search path",
    ),
    (
        "ALTER TABLE notification_history ADD COLUMN carrier text",
        "missing",
        "notification_history.carrier",
        "history has a column that notifications lacks: carrier",
    ),
    (
        "ALTER TABLE notifications ALTER COLUMN created_at TYPE timestamptz",
        "missing",
        "notifications.created_at",
        "is timestamp with time zone, not timestamp without time zone (in UTC)",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN sent_at TYPE timestamptz",
        "missing",
        "notification_history.sent_at",
        "copied by itself it would follow the time zone of the session",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN job_row_number TYPE uuid USING NULL",
        "missing",
        "notification_history.job_row_number",
        "column job_row_number can't be copied: it is integer in notifications and uuid in notification_history",
    ),
    (
        "ALTER TABLE notification_history DROP CONSTRAINT notification_history_pkey, ADD PRIMARY KEY (id, created_at)",
        "missing",
        "notification_history",
        "no primary or unique key on id alone (its primary key: id, created_at)",
    ),
    (
        "CREATE TABLE old () INHERITS (notifications)",
        "missing",
        "notifications",
        "and not by range of created_at: each batch would look into all of them",
    ),
    (
        "ALTER TABLE services RENAME TO real_services; CREATE VIEW services AS SELECT * FROM real_services",
        "missing",
        "services",
        "services is not a table but a view",
    ),
    (
        "CREATE TYPE kinds AS ENUM ('normal', 'team'); ALTER TABLE notifications DROP CONSTRAINT "
        "notifications_key_type_fkey, ALTER COLUMN key_type TYPE kinds USING key_type::kinds",
        "missing",
        "notifications.key_type",
        "the enum of key types lacks test",
    ),
    (
        "CREATE TYPE kinds AS ENUM ('normal', 'test'); ALTER TABLE notification_history DROP CONSTRAINT "
        "notification_history_key_type_fkey, ALTER COLUMN key_type TYPE kinds USING key_type::kinds",
        "note",
        "notification_history.key_type",
        "it is copied as key_type::public.kinds",
    ),
    (
        "CREATE TYPE other AS ENUM ('sms', 'letter'); ALTER TABLE notification_history "
        "ALTER COLUMN notification_type TYPE other USING NULL",
        "look",
        "notification_history.notification_type",
        "the enum other of notification_history lacks email",
    ),
    (
        "CREATE TYPE other AS ENUM ('email', 'sms', 'letter'); ALTER TABLE notification_history "
        "ALTER COLUMN notification_type TYPE other USING NULL",
        "note",
        "notification_history.notification_type",
        "it is copied as notification_type::text::public.other",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN cost_in_millicents TYPE integer",
        "look",
        "notification_history.cost_in_millicents",
        "a number is rounded to a whole one, and nothing says so",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN cost_in_millicents TYPE numeric(10,2)",
        "look",
        "notification_history.cost_in_millicents",
        "a number is rounded to 2 digits after the point, and nothing says so",
    ),
    (
        "CREATE TYPE ends AS ENUM ('delivered', 'sent'); ALTER TABLE notification_history DROP CONSTRAINT "
        "notification_history_notification_status_fkey, ALTER COLUMN notification_status TYPE ends USING NULL",
        "look",
        "notification_history.notification_status",
        "the enum ends of notification_history lacks cancelled, created, failed, ",
    ),
    (
        "CREATE TYPE classes AS ENUM ('first', 'second'); ALTER TABLE notification_history ALTER COLUMN postage "
        "TYPE classes USING postage::classes",
        "look",
        "notification_history.postage",
        "a row with a word that the enum classes of notification_history lacks stops its chain",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN client_reference TYPE varchar(10)",
        "look",
        "notification_history.client_reference",
        "a longer value stops its chain",
    ),
    (
        "ALTER TABLE notification_history ALTER COLUMN notification_status SET NOT NULL",
        "look",
        "notification_history.notification_status",
        "may be NULL in notifications and not in notification_history",
    ),
    (
        "ALTER TABLE notifications DROP CONSTRAINT notifications_service_id_fkey",
        "look",
        "notification_history.notification_history_service_id_fkey",
        "history's service_id must be in table services",
    ),
    (
        "ALTER TABLE notification_history ADD CHECK (billable_units > 0)",
        "look",
        "notification_history",
        "history has a rule that notifications has not: CHECK ((billable_units > 0))",
    ),
    (
        "CREATE UNIQUE INDEX one_a_row ON notification_history (job_id, lower(reference))",
        "look",
        "notification_history.one_a_row",
        "index one_a_row (job_id, an expression) of notification_history is unique",
    ),
    (
        "ALTER TABLE notifications DROP CONSTRAINT notifications_service_id_fkey, "
        "ADD FOREIGN KEY (service_id) REFERENCES services (id) NOT VALID",
        "look",
        "notifications.service_id",
        "rows of one that was removed stay for ever, and nothing reports them",
    ),
    (
        "ALTER TABLE notifications ALTER COLUMN key_type DROP NOT NULL",
        "look",
        "notifications.key_type",
        "column key_type of table notifications may be NULL: a row without it is never chosen",
    ),
    (
        "CREATE TABLE kinds (name varchar PRIMARY KEY); INSERT INTO kinds VALUES ('email'), ('sms'), ('push'); "
        "ALTER TABLE notifications ALTER COLUMN notification_type TYPE varchar, "
        "ADD FOREIGN KEY (notification_type) REFERENCES kinds",
        "look",
        "notifications.notification_type",
        "there is a notification type that the pipeline does not know: push; its rows stay for ever",
    ),
    (
        "ALTER TABLE service_data_retention DROP CONSTRAINT uix_service_data_retention",
        "look",
        "service_data_retention",
        "no unique index keeps table service_data_retention to one retention of a service and type",
    ),
    (
        "ALTER TYPE notification_type RENAME VALUE 'letter' TO 'fax'",
        "look",
        "notifications.notification_type",
        "there is a notification type that the pipeline does not know: fax",
    ),
    (
        "DROP INDEX ix_notifications_service_created_at",
        "look",
        "notifications",
        "no index begins with (service_id, notification_type, created_at) or (service_id, created_at)",
    ),
    (
        "DROP INDEX ix_notifications_reference",
        "look",
        "notifications.reference",
        "no index of table notifications begins with reference",
    ),
    (
        "DROP INDEX ix_scheduled_notifications_notification_id",
        "look",
        "scheduled_notifications.scheduled_notifications_notification_id_fkey",
        "for every notification that is deleted the whole table is read",
    ),
    (
        "ALTER TABLE scheduled_notifications ALTER COLUMN notification_id DROP NOT NULL, DROP CONSTRAINT "
        "scheduled_notifications_notification_id_fkey, ADD FOREIGN KEY (notification_id) REFERENCES notifications (id) "
        "ON DELETE SET NULL",
        "look",
        "scheduled_notifications.scheduled_notifications_notification_id_fkey",
        "its rows stay and lose their reference",
    ),
    (
        "CREATE TABLE attempts (of_row uuid REFERENCES scheduled_notifications)",
        "look",
        "scheduled_notifications.scheduled_notifications_notification_id_fkey",
        "table attempts stops its rows, or what goes with them, from being deleted",
    ),
    (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
        "CREATE TRIGGER keeps BEFORE DELETE ON notifications FOR EACH ROW EXECUTE FUNCTION nothing()",
        "look",
        "notifications.keeps",
        "trigger keeps of table notifications runs for every row that the pipeline moves (DELETE)",
    ),
    (
        "CREATE RULE stays AS ON DELETE TO notifications DO INSTEAD NOTHING",
        "look",
        "notifications.stays",
        "rule stays of table notifications rewrites the statements that move rows (DELETE)",
    ),
    (
        "CREATE ROLE looks; GRANT SELECT ON notifications TO looks; SET LOCAL ROLE looks",
        "look",
        "notifications",
        "role looks may not UPDATE (notification_status), UPDATE (updated_at) on table notifications",
    ),
    (
        "ALTER TABLE notifications ENABLE ROW LEVEL SECURITY",
        "look",
        "notifications",
        "row-level security on table notifications may hide rows from the pipeline's role",
    ),
    (
        "CREATE TABLE replies (of_row uuid REFERENCES notifications, of_other uuid REFERENCES notifications); "
        "ALTER TABLE replies ENABLE ROW LEVEL SECURITY",
        "look",
        "replies",
        "row-level security on table replies may hide rows from the pipeline's role: a notification that such a row",
    ),
]


@pytest.mark.parametrize(("statements", "level", "about", "sentence"), WRONG, ids=[wrong[3][:60] for wrong in WRONG])
def test_what_is_wrong_is_said_in_words(changed, environment, statements, level, about, sentence):
    settings = settings_of(environment, PLATFORM_PRESET="va-notify")
    before = report.explain(catalogue_dao.read(changed), settings, NIGHT)
    changed.exec_driver_sql(statements)
    found = report.explain(catalogue_dao.read(changed), settings, NIGHT)
    new = [one for one in found.findings if one not in before.findings]
    assert [(one.level.value, one.about) for one in new if sentence in one.sentence] == [(level, about)]
    assert before.can_run
    assert found.can_run == (level != "missing")


def test_policies_of_a_table_whose_rows_go_by_themselves_hide_nothing_that_is_read(changed, environment):
    """PostgreSQL does it as the table's owner."""
    changed.exec_driver_sql("ALTER TABLE recipient_identifiers ENABLE ROW LEVEL SECURITY")
    assert hiding(changed, environment) == []


EVERYBODY = "CREATE POLICY everybody ON notifications USING (true)"
WORKERS = "CREATE ROLE retention_worker; CREATE ROLE of_eu LOGIN IN ROLE retention_worker"
THEIRS = "CREATE POLICY theirs ON notifications TO retention_worker USING (true)"
OWNED = "ALTER TABLE notifications OWNER TO an_owner"
NARROWER = "CREATE POLICY narrower ON notifications AS RESTRICTIVE USING (international)"
BYPASSRLS = "give the workers' login BYPASSRLS, since no further policy shows what a restrictive one hides: "
HIDING = [
    ([EVERYBODY], None, ""),
    ([EVERYBODY, NARROWER], "may hide rows from the pipeline's role", BYPASSRLS),
    ([WORKERS], "hides rows from role of_eu", "CREATE POLICY retention_worker ON public.notifications"),
    (["CREATE ROLE retention_worker"], "hides rows from role retention_worker", "CREATE POLICY retention_worker"),
    ([WORKERS, EVERYBODY, NARROWER], "hides rows from role of_eu", BYPASSRLS),
    ([WORKERS, EVERYBODY, NARROWER, "ALTER ROLE of_eu BYPASSRLS"], None, ""),
    (
        ["CREATE ROLE retention_worker; CREATE ROLE an_owner LOGIN IN ROLE retention_worker", OWNED],
        "hides rows from role retention_worker",
        "CREATE POLICY",
    ),
    (["CREATE ROLE other_name", "SET LOCAL ROLE other_name"], "hides rows from role other_name", "CREATE POLICY"),
    (["CREATE ROLE retention_worker; CREATE ROLE other_name", THEIRS, "SET LOCAL ROLE other_name"], None, ""),
    ([EVERYBODY, "CREATE ROLE other_name", "SET LOCAL ROLE other_name"], None, ""),
]


@pytest.mark.parametrize(("statements", "sentence", "fix"), HIDING)
def test_what_policies_hide_is_judged_for_the_pipelines_role_whoever_asks(
    changed, environment, statements, sentence, fix
):
    """The owner sees every row: what it sees says nothing."""
    for statement in ("ALTER TABLE notifications ENABLE ROW LEVEL SECURITY", *statements):
        changed.exec_driver_sql(statement)
    found = hiding(changed, environment)
    assert len(found) == (sentence is not None)
    for one in found:
        assert f"row-level security on table notifications {sentence}: " in one.sentence
        assert one.fix.startswith(fix)


def test_the_policy_that_is_printed_ends_what_is_said(changed, environment):
    changed.exec_driver_sql(f"ALTER TABLE notifications ENABLE ROW LEVEL SECURITY; {WORKERS}")
    [found] = hiding(changed, environment)
    changed.exec_driver_sql(found.fix)
    assert hiding(changed, environment) == []


def hiding(connection: Connection, environment: dict[str, str]) -> list[Finding]:
    """What is said of row-level security."""
    settings = settings_of(environment, PLATFORM_PRESET="va-notify")
    found = report.explain(catalogue_dao.read(connection), settings, NIGHT)
    return [one for one in found.findings if one.sentence.startswith("row-level security on table ")]


# Types in notifications and in history, a value, and what becomes of it.
CASTS = [
    ("numeric", "numeric(10,2)", "0.00581", "lost"),
    ("numeric", "numeric(10,2)", "123456789", "stopped"),
    ("numeric(10,2)", "numeric(9,2)", "12345678", "stopped"),
    ("numeric(10,2)", "numeric(12,2)", "12345678.99", "kept"),
    ("numeric(10,2)", "numeric", "12345678.99", "kept"),
    ("numeric", "integer", "1.4", "lost"),
    ("numeric(10,0)", "integer", "9999999999", "stopped"),
    ("numeric(9,0)", "integer", "999999999", "kept"),
    ("bigint", "integer", "3000000000", "stopped"),
    ("integer", "smallint", "40000", "stopped"),
    ("integer", "bigint", "-2147483648", "kept"),
    ("integer", "numeric(9,0)", "2147483647", "stopped"),
    ("integer", "numeric(10,0)", "2147483647", "kept"),
    ("integer", "real", "16777217", "lost"),
    ("integer", "double precision", "2147483647", "kept"),
    ("bigint", "double precision", "9007199254740993", "lost"),
    ("smallint", "real", "32767", "kept"),
    ("real", "double precision", "0.1", "kept"),
    ("double precision", "real", "0.123456789", "lost"),
    ("double precision", "real", "1e300", "stopped"),
    ("double precision", "numeric", "0.30000000000000004", "lost"),
    ("numeric", "real", "0.123456789", "lost"),
    ("timestamp", "timestamp(0)", "2026-01-15 03:00:00.6", "lost"),
    ("timestamp(0)", "timestamp(3)", "2026-01-15 03:00:00", "kept"),
    ("timestamp", "date", "2026-01-15 03:00:00", "lost"),
    ("date", "timestamp", "2026-01-15", "kept"),
    ("time", "time(1)", "03:00:00.66", "lost"),
    ("interval", "interval(0)", "1.6 seconds", "lost"),
    ("varchar", "varchar(3)", "abcd", "stopped"),
    ("varchar(3)", "varchar(4)", "abc", "kept"),
    ("varchar(3)", "text", "abc", "kept"),
    ("text", "name", "x" * 64, "lost"),
    ("text", "integer", "x", "stopped"),
    ("text", "short", "abcd", "stopped"),
    ("short", "text", "abc", "kept"),
    ("uuid", "varchar(35)", "d9428888-122b-11e1-b85c-61cd3cbb3210", "stopped"),
    ("uuid", "varchar(36)", "d9428888-122b-11e1-b85c-61cd3cbb3210", "kept"),
    ("bigint", "varchar(20)", "-9223372036854775808", "kept"),
    ("notification_type", "varchar(5)", "letter", "stopped"),
    ("notification_type", "varchar(6)", "letter", "kept"),
    ("boolean", "integer", "true", "kept"),
]


@pytest.mark.parametrize(("source", "target", "value", "becomes"), CASTS)
def test_what_a_cast_does_is_said_as_postgresql_does_it(changed, source, target, value, becomes):
    changed.exec_driver_sql(
        f"CREATE DOMAIN short AS text CHECK (length(VALUE) < 4); ALTER TABLE notifications ADD COLUMN tried {source}; "
        f"ALTER TABLE notification_history ADD COLUMN tried {target}; CREATE TEMP TABLE live (tried {source}); "
        f"CREATE TEMP TABLE moved (tried {target})"
    )
    (copy,) = [one for one in copies(catalogue_dao.read(changed)) if one.column == "tried"]
    changed.exec_driver_sql("INSERT INTO live VALUES (%(value)s)", {"value": value})
    moves = f"INSERT INTO moved SELECT {copy.expression} FROM live"
    harms = list(casts.harms(copy.from_type, copy.to_type))
    if becomes == "stopped":
        assert any(harm.endswith(casts.STOPS) for harm in harms)
        with pytest.raises((DataError, IntegrityError)):
            changed.exec_driver_sql(moves)
        return
    changed.exec_driver_sql(moves)
    kept = changed.exec_driver_sql(f"SELECT moved.tried::{source} = live.tried FROM moved, live").scalar_one()
    assert kept == (becomes == "kept")
    assert (harms == []) == kept
    assert changed.exec_driver_sql(f"SELECT {copy.differs} FROM live AS n, moved AS h").scalar_one() != kept
    assert kept or any(harm.endswith(casts.SILENTLY) or harm == casts.NOT_KNOWN for harm in harms)


@pytest.mark.parametrize(("moved", "differs"), [('{"a": 1}', False), ('{"a": 2}', True)])
def test_a_document_is_compared_by_what_it_says_not_by_its_spaces(changed, moved, differs):
    changed.exec_driver_sql(
        "ALTER TABLE notifications ADD COLUMN tried json; ALTER TABLE notification_history ADD COLUMN tried jsonb; "
        "CREATE TEMP TABLE live (tried json); CREATE TEMP TABLE moved (tried jsonb)"
    )
    (copy,) = [one for one in copies(catalogue_dao.read(changed)) if one.column == "tried"]
    changed.exec_driver_sql("INSERT INTO live VALUES (%s)", ('{"a":1}',))
    changed.exec_driver_sql("INSERT INTO moved VALUES (%s)", (moved,))
    assert changed.exec_driver_sql(f"SELECT {copy.differs} FROM live AS n, moved AS h").scalar_one() == differs


def test_an_unknown_schema_is_refused_in_words_and_nothing_is_changed(of_va_notify, environment):
    application = application_on(of_va_notify, environment, PLATFORM_SCHEMA="elsewhere")
    asked = adopt(application)
    application.extensions["db.engine"].dispose()
    assert asked.exit_code == 1
    for name in PLATFORM_TABLES:
        assert f"there is no table {name} in schema elsewhere" in asked.stdout
    assert "Nothing was changed." in asked.stdout
    assert "GRANT SELECT" not in asked.stdout


def test_a_database_that_is_not_there_is_a_sentence(environment):
    unreachable = {**environment, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    asked = adopt(create_app(config.load(unreachable)))
    assert (asked.exit_code, "can't be reached" in asked.stderr) == (1, True)


def test_referring_rows_of_a_table_that_refers_to_nothing_are_pointed_out(changed, environment):
    settings = settings_of(environment, PLATFORM_PRESET="va-notify", REFERRING_ROWS='{"schedules": "delete"}')
    found = report.explain(catalogue_dao.read(changed), settings, NIGHT)
    assert said(found, Level.LOOK)["schedules"].endswith("which does not point at notifications")


def test_letters_without_files_need_no_reference(changed, environment):
    changed.exec_driver_sql(
        "ALTER TABLE notifications DROP COLUMN postage; ALTER TABLE notification_history DROP COLUMN postage"
    )
    catalogue = catalogue_dao.read(changed)
    for letter_files, can_run in (("no-files", True), ("no-letters", True), ("one-bucket", False)):
        settings = settings_of(environment, PLATFORM_PRESET="va-notify", LETTER_FILES=letter_files)
        assert report.explain(catalogue, settings, NIGHT).can_run == can_run


def test_an_invalid_index_is_not_used_and_is_to_be_made_again(changed, environment):
    changed.exec_driver_sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_notifications_service_created_at'::regclass"
    )
    found = report.explain(catalogue_dao.read(changed), settings_of(environment, PLATFORM_PRESET="va-notify"), NIGHT)
    (finding,) = [one for one in found.findings if "is not valid" in one.sentence]
    assert finding.fix.startswith("DROP INDEX CONCURRENTLY public.ix_notifications_service_created_at;")
    assert choice.best(found.catalogue.tables[NOTIFICATIONS]).index is None


@pytest.mark.parametrize(
    ("index", "exact"),
    [
        ("(service_id, notification_type, created_at)", True),
        ("(notification_type, service_id, created_at, id)", True),
        ("(service_id, notification_type, created_at DESC)", True),
        ("(service_id, notification_type, notification_status, created_at)", False),
        ("(service_id, notification_type, created_at) WHERE key_type = 'normal'", False),
        ("(service_id, notification_type, date_trunc('day', created_at))", False),
    ],
)
def test_only_an_index_in_the_order_of_the_choice_is_the_one_for_it(changed, index, exact):
    changed.exec_driver_sql(f"CREATE INDEX tried ON notifications {index}")
    best = choice.best(catalogue_dao.read(changed).tables[NOTIFICATIONS])
    assert best.index is not None
    assert (best.is_exact, best.index.name == "tried") == (exact, exact)


def test_the_estimated_size_of_the_index_is_near_what_it_becomes(changed, environment):
    service = rows.create_service(changed)
    changed.execute(
        text(
            'INSERT INTO notifications (id, "to", service_id, template_id, template_version, key_type, billable_units, '
            "notification_type, created_at, international) SELECT gen_random_uuid(), 'x', :service, gen_random_uuid(), "
            "1, 'normal', 1, 'email', timestamp '2026-01-01' + i * interval '1 second', false "
            "FROM generate_series(1, 50000) AS i"
        ),
        {"service": service},
    )
    changed.execute(text("ANALYZE notifications"))
    table = catalogue_dao.read(changed).tables[NOTIFICATIONS]
    advice = choice.advice(table)
    changed.exec_driver_sql(advice.statement.replace(" CONCURRENTLY", ""))
    became = changed.execute(text("SELECT pg_relation_size(:name)"), {"name": choice.NAME}).scalar_one()
    assert advice.bytes == pytest.approx(became, rel=0.15)
    assert choice.best(catalogue_dao.read(changed).tables[NOTIFICATIONS]).is_exact


def test_the_index_of_a_partitioned_table_is_made_partition_by_partition(changed, environment):
    """PostgreSQL makes none beside live traffic on all of them at once."""
    for statement in (
        "CREATE TABLE tags (of_row uuid REFERENCES notifications, day date) PARTITION BY RANGE (day)",
        "CREATE TABLE tags_of_all_days PARTITION OF tags DEFAULT",
        "ANALYZE tags",
    ):
        changed.exec_driver_sql(statement)
    found = report.explain(catalogue_dao.read(changed), settings_of(environment, PLATFORM_PRESET="va-notify"), NIGHT)
    [fix] = [one.fix for one in found.findings if "of table tags begins with of_row" in one.sentence]
    assert "CREATE INDEX CONCURRENTLY on each partition" in fix
    changed.exec_driver_sql(fix[fix.index("CREATE INDEX ix_tags_of_row") :])
    [key] = [key for key in catalogue_dao.read(changed).referring if key.table == "tags"]
    assert (key.bytes, key.is_indexed) == (0, False)
    changed.exec_driver_sql("CREATE INDEX of_all_days ON tags_of_all_days (of_row)")
    changed.exec_driver_sql("ALTER INDEX ix_tags_of_row ATTACH PARTITION of_all_days")
    assert [one.is_indexed for one in catalogue_dao.read(changed).referring if one.table == "tags"] == [True]


def test_names_that_need_it_are_quoted_in_what_is_printed(changed, environment):
    changed.exec_driver_sql('ALTER SCHEMA public RENAME TO "the Platform"')
    changed.exec_driver_sql('ALTER TABLE "the Platform".scheduled_notifications RENAME TO "order"')
    catalogue = catalogue_dao.read(changed, "the Platform")
    found = report.explain(catalogue, settings_of(environment, PLATFORM_PRESET="va-notify"), NIGHT)
    assert 'GRANT USAGE ON SCHEMA "the Platform" TO retention_worker;' in found.grants
    assert 'GRANT SELECT ON "the Platform"."order" TO retention_worker;' in found.grants
    changed.execute(text("CREATE ROLE retention_worker"))
    for statement in found.grants:
        changed.exec_driver_sql(statement)


def test_the_database_is_the_one_that_was_asked(named, adopting):
    _, engine = named
    found = report.look(adopting.extensions["settings"], NIGHT)
    assert found.catalogue.database == make_url(adopting.extensions["settings"].database_url).database
    assert found.catalogue.database == engine.url.database


def test_the_query_for_days_in_both_tables_finds_them(changed):
    service, other = rows.create_service(changed), rows.create_service(changed)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for one in (service, service, other):
        rows.create_notification(changed, one, "email", yesterday)
    rows.create_history(changed, service, "email", yesterday)
    rows.create_history(changed, other, "sms", yesterday)
    rows.create_history(changed, other, "email", yesterday - timedelta(days=1))
    found = changed.exec_driver_sql(policy.DAYS_IN_BOTH_TABLES).all()
    assert found == [(service, "email", yesterday.date(), 2)]
