"""Two branches of migrations: a database made by the single line that was before them goes on, and retention's stands
alone.

single_line.sql is what `flask db upgrade --sql` wrote of that line. Seen to fail: the row of the second branch not
added, the platform's or retention's revision taken one too early, the log-in attempts left where they were, the split
made by a command that only looks, made where one branch was applied alone, made in an adopted database; a table of
0003's in no schema; `flask db upgrade` beside a platform's notifications let through.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from app import config, create_app
from app.config import psycopg2_url
from app.dao.revisions_dao import SINGLE_LINE
from app.revisions import alembic_config, newest
from tests.dumps import schema_dump
from tests.servers import new_database
from tests.variants import VARIANTS, database

SINGLE_LINE_SQL = Path(__file__).with_name("single_line.sql")
OF_REVISION = re.compile(r"-- Running upgrade \w* -> (\w+)\n")


@pytest.fixture
def url(environment: dict[str, str]) -> Iterator[str]:
    """Of an empty database of the test's own."""
    with new_database(environment["DATABASE_URL"]) as made:
        yield made


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """Its owner's, every statement of which commits at once."""
    engine = create_engine(psycopg2_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as made:
        yield made


@pytest.fixture(scope="module")
def fresh(environment: dict[str, str]) -> str:
    """The schema of a database that was made by the branches."""
    with new_database(environment["DATABASE_URL"]) as url:
        command.upgrade(alembic_config(psycopg2_url(url)), "heads")
        return schema_dump(url)


def upgrade(url: str, to: str = "heads", *, adopted: bool = False) -> None:
    command.upgrade(alembic_config(psycopg2_url(url), adopted=adopted), to)


def at(connection: Connection, table: str = "alembic_version") -> set[str]:
    return set(connection.execute(text(f"SELECT version_num FROM {table}")).scalars())


def make_as_before_branches(connection: Connection, revision: str) -> None:
    """What the single line made, from the first revision to this one."""
    there_are = OF_REVISION.split(SINGLE_LINE_SQL.read_text())
    assert tuple(there_are[1::2]) == SINGLE_LINE
    parts = there_are[: 2 * SINGLE_LINE.index(revision) + 3 : 2]
    for statement in filter(str.strip, "".join(parts).split(";\n\n")):
        if statement.strip() not in ("BEGIN", "COMMIT"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    assert at(connection) == {revision}


@pytest.mark.parametrize("revision", SINGLE_LINE)
def test_a_database_of_the_single_line_ends_as_a_fresh_one(url, connection, fresh, revision):
    make_as_before_branches(connection, revision)
    upgrade(url)
    assert at(connection) == newest()
    assert schema_dump(url) == fresh


def test_rows_stay_where_they_are(url, connection):
    make_as_before_branches(connection, "0013")
    connection.exec_driver_sql("INSERT INTO retention.runs VALUES ('2026-01-15', now())")
    connection.exec_driver_sql("INSERT INTO retention.login_attempts VALUES ('\\x00', 1, now())")
    upgrade(url)
    for table in ("runs", "login_attempts"):
        assert connection.execute(text(f"SELECT count(*) FROM retention.{table}")).scalar() == 1


def test_a_look_at_a_database_of_the_single_line_changes_nothing(url, connection):
    make_as_before_branches(connection, "0010")
    before = schema_dump(url)
    command.current(alembic_config(psycopg2_url(url)))
    assert at(connection) == {"0010"}
    assert schema_dump(url) == before


@pytest.mark.parametrize("branch", ["platform", "retention"])
def test_one_branch_alone_is_not_taken_for_the_single_line(url, connection, fresh, branch):
    upgrade(url, {"platform": "0005", "retention": "0009"}[branch])
    alone = at(connection)
    upgrade(url, f"{branch}@head")
    assert len(alone) == len(at(connection)) == 1
    upgrade(url)
    assert at(connection) == newest()
    assert schema_dump(url) == fresh


def test_the_retention_branch_needs_nothing_of_a_platform_and_makes_nothing_outside_of_its_schema(url, connection):
    before = schema_dump(url, "--exclude-schema=retention")
    upgrade(url, adopted=True)
    assert at(connection, "retention.alembic_version") == newest(adopted=True)
    assert schema_dump(url, "--exclude-schema=retention") == before


def test_beside_an_adopted_retention_the_platforms_branch_is_not_taken_for_the_single_line(url, connection):
    upgrade(url, "platform@head")
    upgrade(url, adopted=True)
    before = at(connection)
    with pytest.raises(Exception, match="already exists"):
        upgrade(url)  # as nobody should: `flask db upgrade` asks first which database it is
    assert at(connection) == before


def flask_db(environment: dict[str, str], url: str, *arguments: str) -> tuple[int, str, str]:
    application = create_app(config.load({**environment, "DATABASE_URL": url}))
    ended = application.test_cli_runner().invoke(args=["db", *arguments])
    application.extensions["db.engine"].dispose()
    return ended.exit_code, ended.stdout, ended.stderr


def test_flask_db_keeps_to_the_pipelines_branch_in_an_adopted_database(environment, url, connection):
    upgrade(url, "0003", adopted=True)
    assert flask_db(environment, url, "upgrade")[0] == 0
    assert at(connection, "retention.alembic_version") == newest(adopted=True)
    assert flask_db(environment, url, "current")[1].split() == [*newest(adopted=True), "(head)"]
    assert connection.execute(text("SELECT to_regclass('notifications')")).scalar() is None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("arguments", [("upgrade",), ("upgrade", "retention@head"), ("stamp", "heads")])
def test_flask_db_refuses_a_platforms_own_notifications(environment, variant, arguments):
    with database(environment["DATABASE_URL"], variant) as engine:
        url = _url(engine)
        before = schema_dump(url)
        status, _, said = flask_db(environment, url, *arguments)
        assert (status, "flask retention adopt" in said) == (1, True)
        assert schema_dump(url) == before


@pytest.mark.parametrize("named", ["notify", "elsewhere"])
def test_flask_db_refuses_them_in_a_schema_that_only_the_setting_names_too(environment, named):
    with database(environment["DATABASE_URL"], "gc-notify", "notify") as engine:
        before = schema_dump(_url(engine))
        status, _, said = flask_db({**environment, "PLATFORM_SCHEMA": named}, _url(engine), "upgrade")
        assert schema_dump(_url(engine)) == before
    says = "flask retention adopt" if named == "notify" else "there is no table notifications"
    assert (status, says in said) == (1, True)


def test_another_programs_revisions_do_not_make_its_notifications_ours(environment):
    with database(environment["DATABASE_URL"], "govuk-notify") as engine, engine.begin() as platform:
        platform.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        platform.execute(text("INSERT INTO alembic_version VALUES ('0445_theirs')"))
        platform.commit()
        status, _, said = flask_db(environment, _url(engine), "upgrade")
    assert (status, "not this product's" in said) == (1, True)


def _url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False).replace("+psycopg2", "")
