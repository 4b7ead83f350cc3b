"""Migrations: they make what the models say, they can be undone, and they give way to live traffic.

Seen to fail: the predicate of a model's index, and a model's check, other than the migrations'.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from app import config, create_app
from app.config import psycopg2_url
from app.models import RETENTION_SCHEMA, Base
from app.revisions import alembic_config, known, newest
from tests.servers import migrated_database, new_database


@pytest.fixture
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    """An empty database of the test's own."""
    with new_database(environment["DATABASE_URL"]) as url:
        yield create_engine(psycopg2_url(url), poolclass=NullPool)


@pytest.fixture
def alembic(engine: Engine) -> Config:
    """Alembic's configuration on that database."""
    return alembic_config(engine.url.render_as_string(hide_password=False))


def differences(engine: Engine) -> list[Any]:
    """What Alembic would change for the database to be as the models say."""
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name in (None, RETENTION_SCHEMA),
        "compare_type": True,
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)


def tables(engine: Engine) -> set[str]:
    inspector = inspect(engine)
    return {*inspector.get_table_names(), *(f"retention.{name}" for name in inspector.get_table_names("retention"))}


def revisions() -> list[Any]:
    return list(ScriptDirectory.from_config(alembic_config("postgresql+psycopg2://unused")).walk_revisions())


@pytest.mark.parametrize("adopted", [False, True])
def test_what_files_are_called_is_what_alembic_reads_in_them(adopted):
    scripts = ScriptDirectory.from_config(alembic_config("postgresql+psycopg2://unused", adopted=adopted))
    assert newest(adopted=adopted) == set(scripts.get_heads())
    assert known(adopted=adopted) == {script.revision for script in scripts.walk_revisions()}


def test_the_migrations_make_what_the_models_say(engine, alembic):
    command.upgrade(alembic, "heads")
    assert differences(engine) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE notification_history DROP COLUMN postage",
        "ALTER TABLE retention.chains ADD COLUMN note text",
        "DROP INDEX ix_notifications_service_id_notification_type_created_at",
        "ALTER TABLE retention.steps ALTER COLUMN started_at TYPE timestamp",
        "ALTER TABLE services ALTER COLUMN active DROP DEFAULT",
    ],
)
def test_a_difference_between_models_and_migrations_is_seen(engine, alembic, change):
    command.upgrade(alembic, "heads")
    with engine.begin() as connection:
        connection.execute(text(change))
    assert len(differences(engine)) == 1


DEFINITIONS = text(
    """
    SELECT indexname AS name, indexdef AS definition FROM pg_indexes
    WHERE schemaname IN ('public', 'retention') AND tablename <> 'alembic_version'
    UNION
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
    """
)


def test_the_indexes_and_checks_of_the_models_are_those_that_the_migrations_make(environment):
    """Alembic compares neither the predicates of indexes nor checks. The functions that they call stay in between."""
    with migrated_database(environment["DATABASE_URL"]) as url:
        engine = create_engine(psycopg2_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            made = {tuple(row) for row in connection.execute(DEFINITIONS)}
            Base.metadata.drop_all(connection)
            assert connection.execute(DEFINITIONS).all() == []
            Base.metadata.create_all(connection)
            assert {tuple(row) for row in connection.execute(DEFINITIONS)} == made
    assert {"ck_chains_stage", "ck_users_state", "ix_chains_due_at"} <= {name for name, _ in made}


def test_a_crash_empties_the_whole_index_of_folders_or_nothing_of_it(engine, alembic):
    """Were only one of the two unlogged, a folder would count as indexed and as having no files."""
    command.upgrade(alembic, "heads")
    unlogged = text("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r' ORDER BY relname")
    with engine.connect() as connection:
        assert connection.execute(unlogged).scalars().all() == ["audited_letters", "indexed_files", "indexed_folders"]


def test_every_migration_can_be_undone_and_done_again(engine, alembic):
    command.upgrade(alembic, "heads")
    made = tables(engine)
    command.downgrade(alembic, "base")
    left = tables(engine)
    command.upgrade(alembic, "heads")
    assert (left, tables(engine), differences(engine)) == ({"alembic_version"}, made, [])
    assert {"notifications", "notification_history", "retention.chains"} <= made


def test_migrating_twice_does_nothing(engine, alembic):
    command.upgrade(alembic, "heads")
    command.upgrade(alembic, "heads")
    assert differences(engine) == []


def test_history_has_no_foreign_keys(engine, alembic):
    command.upgrade(alembic, "heads")
    inspector = inspect(engine)
    assert inspector.get_foreign_keys("notification_history") == []
    assert {key["referred_table"] for key in inspector.get_foreign_keys("notifications")} >= {"services"}


def test_a_migration_that_meets_a_lock_gives_up_instead_of_making_traffic_wait(engine, alembic):
    """A reader holds `services`: the downgrade, which drops it, must not queue in front of every other query."""
    command.upgrade(alembic, "0001")
    before = tables(engine)
    with engine.connect() as reader, ThreadPoolExecutor(1) as another:
        reader.execute(text("SELECT count(*) FROM services"))
        downgrade = another.submit(command.downgrade, alembic, "base")
        try:
            with pytest.raises(OperationalError, match="lock timeout"):
                downgrade.result(timeout=30)
        finally:
            reader.rollback()
    assert tables(engine) == before


def test_time_outs_hold_during_a_migration(engine, alembic):
    """Seen from within: a trigger on the table of revisions notes what holds when a migration writes there."""
    command.upgrade(alembic, "0001")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE seen (lock text, statement text)"))
        connection.execute(
            text(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES "
                "(current_setting('lock_timeout'), current_setting('statement_timeout')); RETURN NEW; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER note BEFORE UPDATE ON alembic_version FOR EACH ROW EXECUTE FUNCTION note()")
        )
    command.upgrade(alembic, "heads")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT lock, statement FROM seen")).all() == [("5s", "15min")]


@pytest.mark.parametrize("revision", revisions(), ids=lambda revision: revision.revision)
def test_every_revision_says_what_it_does(revision):
    assert revision.doc.endswith("."), "a revision opens with a sentence"
    assert len(revision.doc.split()) >= 4


def test_each_branch_has_one_newest_revision_and_none_needs_another_branch():
    there_are = revisions()
    heads = {revision.revision for revision in there_are if not revision.nextrev}
    assert newest() == heads
    assert len(heads) == 2
    assert newest(adopted=True) < heads
    assert {revision.revision for revision in there_are if revision.dependencies} == set()
    labels = {label for revision in there_are for label in revision.branch_labels}
    assert labels == {"platform", "retention"}
    for revision in there_are:
        (label,) = revision.branch_labels
        assert Path(revision.path).parent.name == label


def test_the_statements_can_be_had_without_a_database_and_make_the_same(engine, environment):
    """`flask db upgrade --sql`, for those whose migrations somebody else runs."""
    unreachable = {**environment, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    asked = create_app(config.load(unreachable)).test_cli_runner().invoke(args=["db", "upgrade", "--sql"])
    assert (asked.exit_code, asked.exception) == (0, None)
    assert "SET lock_timeout = '5s'" in asked.stdout
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # One by one: CREATE INDEX CONCURRENTLY bears no company.
        for statement in filter(str.strip, asked.stdout.split(";\n\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    assert differences(engine) == []
