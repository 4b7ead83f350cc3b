"""`flask retention adopt --install` and `--uninstall`: beside a platform's tables, and afterwards without a trace.

Seen to fail: a table of 0015's made in no schema, an installation to 0011 alone, an index of 0010's built beside
writers, the schema left behind, the check's result not heeded, either question not asked, no concern heard, one
forgotten without --force, one taken for what is over, tables dropped with CASCADE, somebody else's schema, our own
database and a newer version's tables let through, a role's lack of rights not looked at, a GRANT of the pipeline's
tables taken out and one added, a REVOKE taken out, `retention.alembic_version` not looked at by readiness and doctor.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic import command
from click.testing import Result
from sqlalchemy import Connection, Engine, make_url, text

from app import config, create_app
from app.adopt.installation import OWN_TABLES
from app.celery import celery
from app.config import Settings
from app.dao.catalogue import PLATFORM_TABLES
from app.doctor import database as doctor
from app.doctor.finding import Finding, Level
from app.retention.readiness import DatabaseNotReady, check_database, check_migrations
from app.revisions import alembic_config, newest
from tests.dumps import schema_dump
from tests.least import ROLE, ROLE_FILE
from tests.security.test_database_role import walk
from tests.servers import Servers, grant_buckets
from tests.variants import OWN, VARIANTS, database
from tests.variants.adopted import STATEMENT, SWITCHED_OFF, adopted, flask_adopt, granted, login, url_of

OUTSIDE, INSIDE = "--exclude-schema=retention", "--schema=retention"


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[tuple[str, Engine]]:
    """A database of each platform's, with nothing of ours in it."""
    with database(environment["DATABASE_URL"], request.param) as engine:
        yield request.param, engine


@pytest.fixture
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    """A database of va-notify's."""
    with database(environment["DATABASE_URL"], "va-notify") as made:
        yield made


@pytest.fixture
def url(engine: Engine) -> str:
    return url_of(engine)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """An administrator's; every statement of it commits at once."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as made:
        yield made


@pytest.fixture
def installed(environment: dict[str, str], url: str) -> str:
    """The schema of va-notify's database with the pipeline's tables beside its own."""
    assert flask_adopt(environment, url, "--install", "--yes").exit_code == 0
    return schema_dump(url)


def failed(ended: Result) -> str:
    """What was said when it ended with 1."""
    assert (ended.exit_code, isinstance(ended.exception, SystemExit)) == (1, True), ended.output
    return ended.stderr


def revisions(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT version_num FROM retention.alembic_version")).scalars())


# Beside the platform's tables ------------------------------------------------------------------------------------


def test_a_platforms_schema_is_byte_for_byte_the_same_before_beside_and_after(variant, environment):
    name, engine = variant
    url = url_of(engine)
    before = schema_dump(url)
    installed = flask_adopt(environment, url, "--install", "--yes", PLATFORM_PRESET=name)
    assert (installed.exit_code, installed.exception) == (0, None)
    assert schema_dump(url, OUTSIDE) == before
    assert schema_dump(url) != before
    gone = flask_adopt(environment, url, "--uninstall", "--yes", PLATFORM_PRESET=name)
    assert (gone.exit_code, gone.exception) == (0, None)
    assert schema_dump(url) == before
    with engine.connect() as connection:
        assert connection.execute(text("SELECT to_regnamespace('retention')")).scalar() is None


def test_the_function_that_was_printed_for_the_api_goes_with_the_schema(connection, url, environment):
    before = schema_dump(url)
    assert flask_adopt(environment, url, "--install", "--yes", PLATFORM_PRESET="va-notify").exit_code == 0
    (made,) = re.findall(r"CREATE OR REPLACE FUNCTION .+?\$\$;", flask_adopt(environment, url).stdout, re.DOTALL)
    connection.exec_driver_sql(made)
    assert "record_status" in schema_dump(url)
    gone = flask_adopt(environment, url, "--uninstall", "--yes", PLATFORM_PRESET="va-notify")
    assert (gone.exit_code, gone.exception) == (0, None)
    assert schema_dump(url) == before


def test_what_is_installed_is_what_our_own_database_has(variant, environment):
    name, engine = variant
    assert flask_adopt(environment, url_of(engine), "--install", "--yes", PLATFORM_PRESET=name).exit_code == 0
    beside = schema_dump(url_of(engine), INSIDE, "--exclude-table=retention.alembic_version")
    with database(environment["DATABASE_URL"], OWN) as own:
        assert beside == schema_dump(url_of(own), INSIDE)
    for table in OWN_TABLES:
        assert f"CREATE {'UNLOGGED ' if table in UNLOGGED else ''}TABLE retention.{table} (" in beside


IS_THERE = text("SELECT to_regnamespace('retention') IS NOT NULL")
UNLOGGED = ("audited_letters", "indexed_files", "indexed_folders")


def test_an_empty_schema_may_be_somebody_elses_and_is_left_with_the_statement_that_drops_it(
    environment, connection, url
):
    connection.exec_driver_sql("CREATE SCHEMA retention")
    said = flask_adopt(environment, url, "--uninstall", "--yes")
    assert (said.exit_code, connection.execute(IS_THERE).scalar()) == (0, True)
    [statement] = re.findall("DROP SCHEMA .*;", said.stdout)
    connection.exec_driver_sql(statement)
    assert connection.execute(IS_THERE).scalar() is False


def test_a_table_of_revisions_that_is_not_alembics_is_not_read(environment, connection, url):
    connection.exec_driver_sql("CREATE TABLE alembic_version (note text)")
    asked = flask_adopt(environment, url, PLATFORM_PRESET="va-notify")
    assert (asked.exit_code, asked.exception) == (0, None)


def test_what_was_granted_is_taken_back_by_what_is_printed(environment, engine, url):
    before = schema_dump(url)
    grants = granted(flask_adopt(environment, url, "--install", "--yes", PLATFORM_PRESET="va-notify").stdout)
    role = f"{ROLE}_{secrets.token_hex(6)}"  # roles are the whole server's
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
        for statement in grants:
            connection.exec_driver_sql(statement.replace(ROLE, role))
        gone = flask_adopt(environment, url, "--uninstall", "--yes", PLATFORM_PRESET="va-notify")
        for statement in STATEMENT.findall(gone.stdout):
            connection.exec_driver_sql(statement.replace(ROLE, role))
        connection.exec_driver_sql(f"DROP ROLE {role}")  # refused, if it still had anything
    assert schema_dump(url) == before


def test_a_long_transaction_of_the_platforms_does_not_stop_it(environment, engine, url):
    """An index that is built beside writers waits for every older transaction of the database."""
    with engine.connect() as report:
        report.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        report.execute(text("SELECT count(*) FROM notifications"))
        assert flask_adopt(environment, url, "--install", "--yes").exit_code == 0


def test_it_waits_for_no_lock_on_the_platforms_tables(environment, engine, url):
    """Somebody keeps all writers out of them, and it is installed and taken away meanwhile."""
    with engine.begin() as other:
        other.execute(text("LOCK TABLE notifications, notification_history, services IN EXCLUSIVE MODE"))
        assert flask_adopt(environment, url, "--install", "--yes").exit_code == 0
        assert flask_adopt(environment, url, "--uninstall", "--yes").exit_code == 0


# Before anything is written --------------------------------------------------------------------------------------


def test_what_is_missing_stops_it_before_anything_is_written(environment, connection, url):
    connection.exec_driver_sql("ALTER TABLE notifications DROP COLUMN created_at CASCADE")
    before = schema_dump(url)
    ended = flask_adopt(environment, url, "--install", "--yes")
    assert ended.exit_code == 1
    assert "table notifications has no column created_at" in ended.stdout
    assert schema_dump(url) == before


@pytest.mark.parametrize("argument", ["--install", "--uninstall"])
def test_it_says_what_it_will_do_and_asks(environment, connection, url, argument):
    if argument == "--uninstall":
        assert flask_adopt(environment, url, "--install", "--yes").exit_code == 0
        connection.exec_driver_sql("INSERT INTO retention.runs VALUES ('2026-01-15', now())")
    before = schema_dump(url)
    for answer in ("n\n", "\n", ""):
        ended = flask_adopt(environment, url, argument, answer=answer)
        assert (ended.exit_code, schema_dump(url)) == (1, before)
    said = {
        "--install": f"Will be made: {len(OWN_TABLES)} tables of the pipeline's own in the schema retention",
        "--uninstall": f"the schema retention with {len(OWN_TABLES) + 1} tables, the records of 1 night.",
    }
    assert said[argument] in ended.stdout
    assert flask_adopt(environment, url, argument, answer="y\n").exit_code == 0
    assert schema_dump(url) != before


@pytest.mark.parametrize(
    "arguments", [("--install", "--uninstall"), ("--install", "--json"), ("--uninstall", "--json")]
)
def test_one_thing_at_a_time(environment, url, arguments):
    before = schema_dump(url)
    assert flask_adopt(environment, url, *arguments, "--yes").exit_code == 2
    assert schema_dump(url) == before


@pytest.mark.parametrize("arguments", [("--install", "--yes"), ("--uninstall", "--yes", "--force")])
def test_somebody_elses_schema_of_that_name_is_left_alone(environment, connection, url, arguments):
    connection.exec_driver_sql("CREATE SCHEMA retention; CREATE TABLE retention.rates (id int)")
    before = schema_dump(url)
    said = failed(flask_adopt(environment, url, *arguments))
    assert "what is not the pipeline's: rates" in said
    assert "named by RETENTION_SCHEMA" in said
    assert schema_dump(url) == before


def test_beside_somebody_elses_schema_of_that_name_ours_has_another(environment, connection, url):
    """Its name is one that must be quoted. A night on such a database is among the promises' tests."""
    ours = {"RETENTION_SCHEMA": "user"}
    connection.exec_driver_sql("CREATE SCHEMA retention; CREATE TABLE retention.runs (id int)")
    before = schema_dump(url)
    said = flask_adopt(environment, url, "--install", "--yes", **ours).stdout
    assert f"{len(OWN_TABLES)} tables of the pipeline's own in the schema user" in said
    assert 'GRANT SELECT ON "user".alembic_version TO retention_worker;' in granted(said)
    assert schema_dump(url, '--exclude-schema="user"') == before
    inside = schema_dump(url, '--schema="user"', '--exclude-table="user".alembic_version')
    with database(environment["DATABASE_URL"], OWN) as own:
        assert re.sub(r'"user"|\buser(?=;)', "retention", inside) == schema_dump(url_of(own), INSIDE)
    assert "nothing to do" in flask_adopt(environment, url, "--install", "--yes", **ours).stdout
    assert_is_ready(environment, url, **ours)
    gone = flask_adopt(environment, url, "--uninstall", "--yes", **ours)
    assert (gone.exit_code, "the schema user with" in gone.stdout) == (0, True)
    assert schema_dump(url) == before


def assert_is_ready(environment: dict[str, str], url: str, **variables: str) -> None:
    """As a worker asks at its start, `flask db current` and the doctor."""
    application = create_app(config.load({**environment, **SWITCHED_OFF, "DATABASE_URL": url, **variables}))
    with application.app_context():
        check_migrations()
        check_database()
        [tables] = doctor.tables(application.extensions["settings"])
        shown = application.test_cli_runner().invoke(args=["db", "current"])
    application.extensions["db.engine"].dispose()
    assert tables.level is Level.OK
    assert all(revision in shown.output for revision in newest(adopted=True))


@pytest.mark.parametrize("arguments", [("--install", "--yes"), ("--uninstall", "--yes", "--force")])
def test_our_own_database_is_not_adopted(environment, arguments):
    with database(environment["DATABASE_URL"], OWN) as own:
        before = schema_dump(url_of(own))
        assert "not adopted" in failed(flask_adopt(environment, url_of(own), *arguments))
        assert schema_dump(url_of(own)) == before


def test_a_role_that_may_not_make_a_schema_is_told_how_it_gets_one(environment, connection, engine, url):
    with login(engine, [f'GRANT CONNECT ON DATABASE "{engine.url.database}" TO retention_worker;', USAGE]) as of_role:
        before = schema_dump(url)
        said = failed(flask_adopt(environment, of_role, "--install", "--yes"))
        (statement,) = re.findall(r"CREATE SCHEMA retention AUTHORIZATION \w+;", said)
        assert schema_dump(url) == before
        connection.exec_driver_sql(statement)
        assert flask_adopt(environment, of_role, "--install", "--yes").exit_code == 0
        assert flask_adopt(environment, of_role, "--uninstall", "--yes").exit_code == 0
        assert schema_dump(url) == before


USAGE = "GRANT USAGE ON SCHEMA public TO retention_worker;"


# Twice, and half-way ---------------------------------------------------------------------------------------------


def test_each_can_be_run_twice(environment, url, installed):
    again = flask_adopt(environment, url, "--install", "--yes")
    assert (again.exit_code, "nothing to do" in again.stdout) == (0, True)
    assert "GRANT SELECT ON retention.alembic_version TO retention_worker;" in granted(again.stdout)
    assert schema_dump(url) == installed
    for _ in range(2):
        gone = flask_adopt(environment, url, "--uninstall", "--yes")
        assert gone.exit_code == 0
    assert "nothing to take away" in gone.stdout


@pytest.mark.parametrize("revision", ["none", "an older one"])
def test_one_that_was_interrupted_goes_on_or_can_be_taken_away(environment, connection, url, installed, revision):
    def interrupt():
        if revision == "none":
            connection.exec_driver_sql("DELETE FROM retention.alembic_version")
            for table in OWN_TABLES:
                connection.exec_driver_sql(f"DROP TABLE retention.{table} CASCADE")
            connection.exec_driver_sql("DROP FUNCTION retention.require_record_of_lift()")
        else:
            command.downgrade(
                alembic_config(f"postgresql+psycopg2:{url.partition(':')[2]}", adopted=True), "retention@-1"
            )

    interrupt()
    made = flask_adopt(environment, url, "--install", "--yes")
    assert made.exit_code == 0, made.output
    assert revisions(connection) == newest(adopted=True)
    assert schema_dump(url) == installed
    interrupt()
    assert flask_adopt(environment, url, "--uninstall", "--yes").exit_code == 0
    assert connection.execute(text("SELECT to_regnamespace('retention')")).scalar() is None


@pytest.mark.parametrize("arguments", [("--install", "--yes"), ("--uninstall", "--yes", "--force")])
def test_a_newer_versions_tables_are_left_to_it(environment, connection, url, installed, arguments):
    connection.exec_driver_sql("UPDATE retention.alembic_version SET version_num = '9999'")
    assert "a newer version's" in failed(flask_adopt(environment, url, *arguments))
    assert schema_dump(url) == installed


# What is not over ------------------------------------------------------------------------------------------------

CHAIN = (
    "INSERT INTO retention.runs VALUES ('2026-01-15', now()); INSERT INTO retention.chains (night, notification_type, "
    "service_id, cutoff, stage, state, reason, due_at, created_at) VALUES ('2026-01-15', 'letter', gen_random_uuid(), "
    "now(), 'real', '{}', 'missing-files', now(), now())"
)
DEFERRED = (
    "INSERT INTO retention.{} VALUES (gen_random_uuid(), {}, 'letter', now(), 'AccessDenied', 1, now(), now(), now(){})"
)
NOT_OVER = {
    "1 worker at work": "INSERT INTO retention.heartbeats VALUES ('worker', 'one', now())",
    "1 notification type of a night": "INSERT INTO retention.runs VALUES ('2026-01-15', now()); "
    "INSERT INTO retention.run_types VALUES ('2026-01-15', 'email', now())",
    "1 chain of a night under way": CHAIN.format("waiting"),
    "1 chain resting": CHAIN.format("resting"),
    "1 step begun to delete files": "INSERT INTO retention.intents (service_id, kind, looked_in, notification_ids, "
    "written_at) VALUES (gen_random_uuid(), 'real', 'a', '{}', now())",
    "1 row held back": DEFERRED.format("deferred_rows", "gen_random_uuid()", ", false, 'letter'"),
    "1 bucket passed over": DEFERRED.format("deferred_buckets", "'a-bucket'", ""),
    "1 hold on a service or a user": "INSERT INTO retention.holds VALUES "
    "(gen_random_uuid(), 'an inquiry', 'me', now())",
    "1 audit under way": "INSERT INTO retention.audits (started_at, advanced_at, started_by, deletes) "
    "VALUES (now(), now(), 'me', false)",
}


@pytest.mark.parametrize("said", NOT_OVER)
def test_what_is_not_over_is_not_forgotten_unless_that_is_meant(environment, connection, url, installed, said):
    connection.exec_driver_sql(NOT_OVER[said])
    ended = flask_adopt(environment, url, "--uninstall", "--yes")
    assert "Nothing was dropped" in failed(ended)
    assert f"  {said}" in ended.stdout
    assert schema_dump(url) == installed
    forced = flask_adopt(environment, url, "--uninstall", "--force", answer="y\n")
    assert (forced.exit_code, f"  {said}" in forced.stdout) == (0, True)
    assert connection.execute(text("SELECT to_regnamespace('retention')")).scalar() is None


def test_what_is_over_is_in_nobodys_way(environment, connection, url, installed):
    for statement in (
        CHAIN.format("ended"),
        "INSERT INTO retention.run_types VALUES ('2026-01-15', 'email', now(), now())",
        "INSERT INTO retention.heartbeats VALUES ('worker', 'gone', now() - interval '2 minutes')",
        "INSERT INTO retention.holds VALUES ('pipeline', 'going back', 'me', now())",
        "INSERT INTO retention.audits (started_at, advanced_at, started_by, deletes, abandoned, finished_at) "
        "VALUES (now(), now(), 'me', false, false, now()), (now(), now(), 'me', false, true, NULL)",
    ):
        connection.exec_driver_sql(statement)
    assert flask_adopt(environment, url, "--uninstall", "--yes").exit_code == 0


def test_a_step_that_is_at_work_is_not_pulled_from_under(environment, engine, url, installed):
    with engine.begin() as step:
        step.execute(text("LOCK TABLE retention.chains IN ROW EXCLUSIVE MODE"))
        said = failed(flask_adopt(environment, url, "--uninstall", "--yes", "--force"))
    assert "A lock was held by someone else" in said
    assert schema_dump(url) == installed


def test_what_depends_on_the_tables_keeps_them(environment, connection, url, installed):
    connection.exec_driver_sql("CREATE VIEW public.nights AS SELECT night FROM retention.runs")
    before = schema_dump(url)
    assert "view nights depends on table retention.runs" in failed(
        flask_adopt(environment, url, "--uninstall", "--yes")
    )
    assert schema_dump(url) == before
    connection.exec_driver_sql("CREATE FUNCTION retention.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    connection.exec_driver_sql("DROP VIEW public.nights")
    before = schema_dump(url)
    assert "retention.theirs()" in failed(flask_adopt(environment, url, "--uninstall", "--yes"))
    assert schema_dump(url) == before


# With exactly what was printed -----------------------------------------------------------------------------------


@pytest.fixture
def on_own_tables(environment: dict[str, str], started_servers: Servers) -> Iterator[tuple[Any, Engine]]:
    """The application on our own platform tables, with the pipeline adopted beside them."""
    variables = {
        "FAN_OUT_SPREAD_SECONDS": "0",
        "S3_BUCKET_INVALID_PDF": "there-is-no-such-bucket",
        "LETTER_FOLDER_INDEX": "true",
        "AUDIT_MARGIN_HOURS": "0.000001",
        "RETRY_AFTER_SECONDS": "1",
    }
    if started_servers.has_policies:
        grant_buckets({**environment, **variables})
    with adopted(environment, OWN, **variables) as made:
        application = create_app(config.load(made.environment))
        with application.app_context():
            yield application, made.owner
            application.extensions["db.session"].remove()
        application.extensions["db.engine"].dispose()
        celery.control.purge()


def test_everything_that_the_pipeline_does_is_possible_with_what_was_printed(on_own_tables, s3):
    """A whole night, receipts and every command. Under the same role nothing else is possible."""
    application, owner = on_own_tables
    with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        walk(application, connection, s3)


def test_what_is_printed_for_the_pipelines_tables_is_what_the_file_grants(environment, url, installed):
    """tests/security/test_database_role.py shows that each of those is needed."""
    printed = granted(flask_adopt(environment, url).stdout)
    of_file = re.findall(r"^GRANT [^;]+ ON retention\.[^;]+;", ROLE_FILE.read_text(), re.MULTILINE)
    assert len(of_file) > 20
    assert _privileges(printed) == _privileges(of_file) | {("SELECT", "alembic_version")}


def _privileges(statements: list[str]) -> set[tuple[str, str]]:
    found = [re.fullmatch(r"GRANT (.+) ON retention\.(\w+) TO retention_worker;", one) for one in statements]
    return {(what, match[2]) for match in found if match for what in match[1].split(", ")}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_doctor_and_readiness_know_an_adopted_database(environment, name):
    with adopted(environment, name) as made, create_app(config.load(made.environment)).app_context() as context:
        settings = context.app.extensions["settings"]
        with made.owner.begin() as connection:  # as most platforms have it, and no business of ours
            connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        check_migrations()
        findings = [finding for finding in doctor.examine(settings) if finding.level is Level.ERROR]
        assert findings == []
        with made.owner.begin() as connection:
            connection.execute(text("UPDATE retention.alembic_version SET version_num = '0011'"))
        with pytest.raises(DatabaseNotReady, match=r"at migration 0011, this version needs \d+\..*adopt --install"):
            check_migrations()
        context.app.extensions["db.engine"].dispose()


def test_the_doctor_looks_in_the_platforms_schema(environment, connection, engine, url):
    """Where the search path does not find the tables, a right or an index that is missing is still told."""
    given = {"PLATFORM_PRESET": "va-notify", "PLATFORM_SCHEMA": "notify"}
    moved = [f"ALTER TABLE {table} SET SCHEMA notify" for table in PLATFORM_TABLES]
    connection.exec_driver_sql("; ".join(["CREATE SCHEMA notify", *moved]))
    grants = granted(flask_adopt(environment, url, "--install", "--yes", **given).stdout)
    too_few = [one for one in grants if one != "GRANT DELETE ON notify.notifications TO retention_worker;"]
    assert len(too_few) == len(grants) - 1
    with login(engine, too_few) as of_role, application_at(environment, of_role, **given) as settings:
        lacks = errors_of(doctor.role(settings))
        before = list(doctor.indexes(settings))
        connection.exec_driver_sql("DROP INDEX notify.ix_notifications_reference")
        after = list(doctor.indexes(settings))
    assert lacks == ["The database's role lacks DELETE ON notify.notifications."]
    [new] = [finding for finding in after if finding not in before]
    assert "(reference)" in new.says
    assert " ON notify.notifications " in new.fix


@contextmanager
def application_at(environment: dict[str, str], url: str, **variables: str) -> Iterator[Settings]:
    """The settings of an application whose context is pushed."""
    application = create_app(config.load({**environment, **SWITCHED_OFF, "DATABASE_URL": url, **variables}))
    with application.app_context():
        try:
            yield application.extensions["settings"]
        finally:
            application.extensions["db.engine"].dispose()


def test_each_grant_on_the_platforms_tables_that_is_left_out_is_told(environment, connection, engine, url):
    """On tables that refer, on the table of statuses and on the schema of a type, too."""
    given = {"PLATFORM_PRESET": "va-notify", "PLATFORM_SCHEMA": "notify"}
    tables = (*PLATFORM_TABLES, "scheduled_notifications", "notification_status_types")
    moved = [f"ALTER TABLE {table} SET SCHEMA notify" for table in tables]
    kinds = ["CREATE SCHEMA kinds", "ALTER TYPE notification_type SET SCHEMA kinds"]
    connection.exec_driver_sql("; ".join(["CREATE SCHEMA notify", *kinds, *moved]))
    statements = granted(flask_adopt(environment, url, "--install", "--yes", **given).stdout)
    with login(engine, statements) as of_login, application_at(environment, of_login, **given) as settings:
        role = (make_url(of_login).username or "").removesuffix("_login")
        of_platform = [one for one in statements if not re.search(r"DATABASE| retention[. ]", one)]
        assert {name for name in (*tables, "kinds") if any(name in one for one in of_platform)} == {*tables, "kinds"}
        assert errors_of(doctor.examine(settings)) == []
        for statement in of_platform:
            revoke = statement.replace("GRANT", "REVOKE").replace(f" TO {ROLE}", f" FROM {role}")
            connection.exec_driver_sql(revoke)
            what, on = re.fullmatch(r"GRANT (.+) ON (.+) TO \w+;", statement).groups()
            says = " ".join(errors_of(doctor.examine(settings)))
            for word in re.findall(r"[A-Z]+", what):
                assert re.search(rf"{word}[^,]* ON {on}", says)
            adopt = flask_adopt(environment, of_login, **given).stdout
            assert f"{on.rpartition(' ')[2].rpartition('.')[2]}: role " in adopt
            connection.exec_driver_sql(statement.replace(ROLE, role))


def errors_of(findings: Iterable[Finding]) -> list[str]:
    return [finding.says for finding in findings if finding.level is Level.ERROR]


def test_rows_that_a_policy_hides_are_not_taken_for_rows_that_are_gone(environment, connection, engine, url):
    """The owner sees them all: what is asked is what the workers' login sees."""
    grants = granted(flask_adopt(environment, url, "--install", "--yes", PLATFORM_PRESET="va-notify").stdout)
    with login(engine, grants) as of_login, application_at(environment, of_login, PLATFORM_PRESET="va-notify"):
        check_database()
        connection.exec_driver_sql("ALTER TABLE notifications ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DatabaseNotReady, match="on table notifications hides rows from role"):
            check_database()
        said = flask_adopt(environment, url, PLATFORM_PRESET="va-notify").stdout
        [policy] = re.findall(r"CREATE POLICY .+;", said)
        role = (make_url(of_login).username or "").removesuffix("_login")
        connection.exec_driver_sql(policy.replace(ROLE, role))
        check_database()
        connection.exec_driver_sql("CREATE POLICY narrower ON notifications AS RESTRICTIVE USING (international)")
        with pytest.raises(DatabaseNotReady):
            check_database()
        connection.exec_driver_sql("DROP POLICY narrower ON notifications")
        connection.exec_driver_sql(f"ALTER POLICY {role} ON notifications USING (international)")
        with pytest.raises(DatabaseNotReady):
            check_database()
        connection.exec_driver_sql(f"DROP POLICY {role} ON notifications")


def test_readiness_is_not_misled_by_a_platforms_own_revisions(environment):
    with database(environment["DATABASE_URL"], "govuk-notify") as engine, engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0445_theirs')"))
        connection.commit()
        application = create_app(config.load({**environment, "DATABASE_URL": url_of(engine)}))
        with application.app_context():
            with pytest.raises(DatabaseNotReady, match=r"another program's.*adopt --install"):
                check_migrations()
            assert flask_adopt(environment, url_of(engine), "--install", "--yes").exit_code == 0
            check_migrations()
        application.extensions["db.engine"].dispose()
