"""The catalogue as it is read, on every variant and on tables that are like none of them.

Seen to fail: dropped columns and included ones of an index kept, a domain not followed to what it is made of, the
search path and the schema left out, `indisvalid` left out, any index of a referring table taken for one of its key,
constraints' own triggers kept, the table of statuses read by a role that may not, row-level security asked for the role
that looks, a policy's roles, commands and expression left out, a rule that is off kept, a key taken for validated, the
server's version made up.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, inspect, text

from app.dao import catalogue_dao
from app.dao.catalogue import (
    HISTORY,
    NOTIFICATIONS,
    ORDINARY_TABLE,
    PARTITIONED_TABLE,
    PLATFORM_TABLES,
    Catalogue,
    RowSecurity,
    Rule,
    Type,
)
from app.models.types import EMAIL, NOTIFICATION_TYPES, SMS, STATUSES
from tests.variants import ALL, OWN, database, load, rows


@pytest.fixture(scope="module", params=ALL)
def named(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[tuple[str, Connection]]:
    """Each database as it is, and an administrator's connection to it."""
    with database(environment["DATABASE_URL"], request.param) as engine, engine.connect() as connection:
        yield request.param, connection


@pytest.fixture(scope="module")
def of_va_notify(environment: dict[str, str]) -> Iterator[Connection]:
    """va-notify's database, for tests that change it and roll back."""
    with database(environment["DATABASE_URL"], "va-notify") as engine, engine.connect() as connection:
        yield connection


@pytest.fixture
def changed(of_va_notify: Connection) -> Iterator[Connection]:
    yield of_va_notify
    of_va_notify.rollback()


def test_columns_are_read_as_they_are_declared(named):
    _, connection = named
    catalogue = catalogue_dao.read(connection)
    assert tuple(catalogue.tables) == PLATFORM_TABLES
    for name, table in catalogue.tables.items():
        declared = inspect(connection).get_columns(name)
        assert [(column.name, column.nullable, column.default is not None) for column in table.columns.values()] == [
            (column["name"], column["nullable"], column["default"] is not None) for column in declared
        ]
        labels = {column["name"]: tuple(getattr(column["type"], "enums", ())) for column in declared}
        assert {one.name: one.type.labels or () for one in table.columns.values()} == labels
        assert (table.schema, table.kind, table.has_children) == ("public", "r", False)
        assert table.row_security == RowSecurity()


def test_keys_and_indexes_are_read_in_the_order_of_their_columns(named):
    _, connection = named
    for name, table in catalogue_dao.read(connection).tables.items():
        declared = {index["name"]: tuple(index["column_names"]) for index in inspect(connection).get_indexes(name)}
        assert {index.name: index.columns for index in table.indexes if index.name in declared} == declared
        assert table.primary_key == ("id",)
        assert all(index.is_valid for index in table.indexes)


def test_what_points_at_notifications_is_read_with_its_action(named):
    name, connection = named
    found = {
        (key.table, key.columns, key.referred_columns, key.on_delete, key.is_indexed)
        for key in catalogue_dao.read(connection).referring
    }
    scheduled = ("scheduled_notifications", ("notification_id",), ("id",), "NO ACTION", True)
    identifiers = ("recipient_identifiers", ("notification_id",), ("id",), "CASCADE", True)
    assert found == {"gc-notify": {scheduled}, "va-notify": {scheduled, identifiers}}.get(name, set())


def test_statuses_and_types_are_those_of_the_enum_or_of_the_table_that_is_referred_to(named):
    name, connection = named
    more = {"us-notify": {"returned-letter"}, "va-notify": {"pii-check-failed", "preferences-declined"}}.get(
        name, set()
    )
    found = catalogue_dao.read(connection)
    assert set(found.statuses or ()) == set(STATUSES) ^ more
    assert set(found.types or ()) == ({EMAIL, SMS} if name == "us-notify" else set(NOTIFICATION_TYPES))


def test_sizes_and_shares_are_what_the_planner_knows(environment):
    with database(environment["DATABASE_URL"], "govuk-notify") as engine:
        with engine.begin() as connection:
            assert catalogue_dao.read(connection).tables[NOTIFICATIONS].rows is None
            service = rows.create_service(connection)
            for number in range(20):
                rows.create_notification(connection, service, "sms" if number % 4 == 0 else "email")
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("ANALYZE"))
            known = catalogue_dao.read(connection)
    assert known.tables[NOTIFICATIONS].rows == 20
    assert known.tables[NOTIFICATIONS].bytes >= 8192
    assert known.type_shares == {"email": pytest.approx(0.75), "sms": pytest.approx(0.25)}


def test_a_partitioned_table_has_no_size_of_its_own(changed):
    """PostgreSQL notes -1 page for one that was analysed."""
    for statement in (
        "DROP TABLE notification_history",
        "CREATE TABLE notification_history (id uuid PRIMARY KEY) PARTITION BY LIST (id)",
        "CREATE TABLE of_history PARTITION OF notification_history DEFAULT",
        "ALTER TABLE scheduled_notifications RENAME TO before",
        "CREATE TABLE scheduled_notifications (of_row uuid REFERENCES notifications) PARTITION BY LIST (of_row)",
        "CREATE TABLE of_scheduled PARTITION OF scheduled_notifications DEFAULT",
        "ANALYZE notification_history, scheduled_notifications",
    ):
        changed.execute(text(statement))
    found = catalogue_dao.read(changed)
    assert (found.tables[HISTORY].kind, found.tables[HISTORY].bytes) == (PARTITIONED_TABLE, 0)
    of_keys = {key.table: (key.kind, key.bytes) for key in found.referring}
    assert of_keys["scheduled_notifications"] == (PARTITIONED_TABLE, 0)
    assert of_keys["before"][0] == ORDINARY_TABLE


def test_tables_are_found_in_the_schema_that_is_named_whatever_the_search_path(changed):
    load(changed, "us-notify", schema="Other platform")
    changed.execute(text("SET LOCAL search_path TO public"))
    assert len(catalogue_dao.read(changed).tables[NOTIFICATIONS].columns) == 34
    other = catalogue_dao.read(changed, "Other platform")
    assert {table.schema for table in other.tables.values()} == {"Other platform"}
    assert len(other.tables[NOTIFICATIONS].columns) == 31
    assert other.referring == ()
    changed.execute(text('SET LOCAL search_path TO "Other platform", public'))
    found = catalogue_dao.read(changed)
    assert (len(found.tables[NOTIFICATIONS].columns), found.where) == (31, 'search path "Other platform", public')
    assert catalogue_dao.read(changed, "no such schema").tables == {}


def test_a_schema_that_the_role_may_not_use_is_read_all_the_same(changed):
    changed.execute(text("CREATE SCHEMA hidden CREATE TABLE notifications (id uuid)"))
    changed.execute(text("CREATE ROLE nobody_in_particular"))
    changed.execute(text("SET LOCAL ROLE nobody_in_particular"))
    of_hidden = catalogue_dao.read(changed, "hidden")
    assert list(of_hidden.tables[NOTIFICATIONS].columns) == ["id"]
    assert of_hidden.held_on["hidden", NOTIFICATIONS] == frozenset()
    of_public = catalogue_dao.read(changed, "public")
    assert of_public.statuses is None, "the role may not read the table of statuses"


def test_domains_are_followed_and_dropped_generated_and_included_columns_are_told_apart(changed):
    for statement in (
        "CREATE DOMAIN short AS varchar(20)",
        "CREATE DOMAIN code AS short CHECK (VALUE <> '')",
        "ALTER TABLE notifications DROP COLUMN billing_code",
        "ALTER TABLE notifications ADD COLUMN billing_code code",
        "ALTER TABLE notification_history ADD COLUMN day date GENERATED ALWAYS AS (created_at::date) STORED",
        "CREATE INDEX odd ON notifications (lower(reference), service_id DESC) INCLUDE (created_at) "
        "WHERE key_type = 'test'",
    ):
        changed.execute(text(statement))
    catalogue = catalogue_dao.read(changed)
    live, history = (catalogue.tables[name] for name in (NOTIFICATIONS, HISTORY))
    assert live.columns["billing_code"].type == Type("pg_catalog", "varchar", "code", is_domain=True)
    assert len(live.columns) == 34
    assert history.columns["day"].generated
    (odd,) = [index for index in live.indexes if index.name == "odd"]
    assert odd.columns == (None, "service_id")
    assert odd.predicate is not None
    assert "test" in odd.predicate


def test_triggers_rules_row_security_partitions_and_checks_are_seen(changed):
    for statement in (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$",
        "CREATE TRIGGER seen BEFORE DELETE OR UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE TRIGGER off AFTER INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION nothing()",
        "ALTER TABLE notifications DISABLE TRIGGER off",
        "ALTER TABLE notification_history ADD CHECK (billable_units >= 0)",
        "CREATE TABLE kept () INHERITS (services)",
        "CREATE ROLE a_reader",
        "GRANT SELECT ON notifications TO a_reader",
        "GRANT UPDATE (updated_at) ON notifications TO a_reader",
        "ALTER TABLE notifications ENABLE ROW LEVEL SECURITY",
        "CREATE RULE elsewhere AS ON UPDATE TO notification_history DO ALSO NOTHING",
        "CREATE RULE off AS ON DELETE TO notifications DO INSTEAD NOTHING",
        "ALTER TABLE notifications DISABLE RULE off",
    ):
        changed.execute(text(statement))
    of_owner = catalogue_dao.read(changed).tables
    changed.execute(text("SET LOCAL ROLE a_reader"))
    of_reader = catalogue_dao.read(changed)
    tables = of_reader.tables
    live = tables[NOTIFICATIONS]
    assert {name for name, table in of_owner.items() if table.row_security.is_on} == {NOTIFICATIONS}
    assert [(one.name, set(one.events), one.is_enabled) for one in live.triggers] == [
        ("off", {"INSERT"}, False),
        ("seen", {"DELETE", "UPDATE"}, True),
    ]
    assert (live.row_security.ours.hides_rows, tables["services"].has_children) == (True, True)
    assert (live.rules, tables[HISTORY].rules) == ((), (Rule("elsewhere", "UPDATE"),))
    assert tables[HISTORY].checks == {"CHECK ((billable_units >= 0))"}
    assert (of_reader.held_on[live.schema, live.name], live.columns_to_update) == ({"SELECT"}, {"updated_at"})


def test_row_security_of_a_referring_table_is_asked_for_the_role_that_looks(changed):
    for statement in ("ALTER TABLE scheduled_notifications ENABLE ROW LEVEL SECURITY", "CREATE ROLE a_reader"):
        changed.execute(text(statement))
    of_owner, of_reader = (
        {key.table: (key.row_security.is_on, key.row_security.ours.hides_rows) for key in found.referring}
        for found in (catalogue_dao.read(changed), as_a_reader(changed))
    )
    assert of_owner == {"scheduled_notifications": (True, False), "recipient_identifiers": (False, False)}
    assert of_reader == {"scheduled_notifications": (True, True), "recipient_identifiers": (False, False)}


EVERYBODY = "USING (true)"
POLICIES = [
    ((), True, False),
    ((EVERYBODY,), False, False),
    (("TO a_reader USING (true)",), False, False),
    (("TO a_group USING (true)",), False, False),
    (("TO pg_monitor USING (true)",), True, False),
    (("FOR SELECT USING (true)",), True, False),
    (("USING (key_type <> 'test')",), True, False),
    ((EVERYBODY, "AS RESTRICTIVE USING (international)"), True, True),
    ((EVERYBODY, "AS RESTRICTIVE FOR SELECT TO a_group USING (international)"), True, True),
    ((EVERYBODY, "AS RESTRICTIVE FOR DELETE USING (false)"), True, True),
    ((EVERYBODY, "AS RESTRICTIVE FOR SELECT TO pg_monitor USING (false)"), False, False),
    ((EVERYBODY, "AS RESTRICTIVE FOR INSERT WITH CHECK (false)"), False, False),
    ((EVERYBODY, "AS RESTRICTIVE WITH CHECK (international)"), False, False),
    ((EVERYBODY, "AS RESTRICTIVE USING (true)"), False, False),
]


@pytest.mark.parametrize(("policies", "hides_rows", "is_restricted"), POLICIES)
def test_a_policy_counts_for_the_roles_and_the_statements_that_it_is_for(changed, policies, hides_rows, is_restricted):
    changed.execute(text("ALTER TABLE notifications ENABLE ROW LEVEL SECURITY"))
    changed.execute(text("CREATE ROLE a_reader; CREATE ROLE a_group ROLE a_reader"))
    for number, policy in enumerate(policies):
        changed.execute(text(f"CREATE POLICY policy_{number} ON notifications {policy}"))
    ours = as_a_reader(changed).tables[NOTIFICATIONS].row_security.ours
    assert (ours.hides_rows, ours.is_restricted) == (hides_rows, is_restricted)


@pytest.mark.parametrize(
    ("statement", "hides_rows"),
    [
        ("ALTER ROLE a_reader BYPASSRLS", False),
        ("ALTER TABLE notifications OWNER TO a_reader", False),
        ("ALTER TABLE notifications OWNER TO a_reader, FORCE ROW LEVEL SECURITY", True),
        ("ALTER ROLE a_reader SUPERUSER; ALTER TABLE notifications FORCE ROW LEVEL SECURITY", False),
    ],
)
def test_who_is_exempt_from_policies_is_who_postgresql_exempts(changed, statement, hides_rows):
    changed.execute(text("ALTER TABLE notifications ENABLE ROW LEVEL SECURITY; CREATE ROLE a_reader"))
    changed.execute(text(statement))
    ours = as_a_reader(changed).tables[NOTIFICATIONS].row_security.ours
    active = changed.execute(text("SELECT row_security_active('notifications')")).scalar_one()
    assert (ours.hides_rows, ours.role) == (hides_rows, "a_reader")
    assert active == hides_rows


def as_a_reader(connection: Connection) -> Catalogue:
    connection.execute(text("SET LOCAL ROLE a_reader"))
    return catalogue_dao.read(connection)


def test_a_key_of_a_referring_table_is_indexed_when_an_index_begins_with_its_columns(changed):
    changed.execute(text("DROP INDEX ix_scheduled_notifications_notification_id"))
    changed.execute(text("CREATE INDEX other ON scheduled_notifications (pending, notification_id)"))
    indexed = {key.table: key.is_indexed for key in catalogue_dao.read(changed).referring}
    assert indexed == {"scheduled_notifications": False, "recipient_identifiers": True}


def test_a_key_that_was_never_validated_and_the_servers_version_are_seen(changed):
    changed.execute(
        text("ALTER TABLE notifications ADD CONSTRAINT later FOREIGN KEY (service_id) REFERENCES services NOT VALID")
    )
    found = catalogue_dao.read(changed)
    validated = {key.name: key.is_validated for key in found.from_notifications if key.columns == ("service_id",)}
    assert validated == {"notifications_service_id_fkey": True, "later": False}
    assert found.server_version == int(changed.execute(text("SHOW server_version_num")).scalar_one())


def test_an_index_that_was_not_finished_is_not_valid(changed):
    changed.execute(
        text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_notifications_created_at'::regclass")
    )
    live = catalogue_dao.read(changed).tables[NOTIFICATIONS]
    assert {index.name for index in live.indexes if not index.is_valid} == {"ix_notifications_created_at"}


def test_names_are_kept_as_they_are(changed):
    changed.execute(text('ALTER TABLE notifications ADD COLUMN "Ünïcode ""%s""" text'))
    assert 'Ünïcode "%s"' in catalogue_dao.read(changed).tables[NOTIFICATIONS].columns


def test_our_own_tables_of_the_pipeline_are_not_asked_for(environment):
    with database(environment["DATABASE_URL"], OWN) as engine, engine.begin() as connection:
        connection.execute(text("DROP SCHEMA retention CASCADE"))
        assert tuple(catalogue_dao.read(connection).tables) == PLATFORM_TABLES
