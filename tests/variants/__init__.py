"""The databases that platforms of the family already have, named after them, and our own schema.

`database(server, name)` is a database of its own with the tables of that name; `rows` fills any of them.
`with_pipeline` adds the pipeline's own tables, and `application_on` is the application on such a database.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from flask import Flask
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.schema import CreateSchema

from app import config, create_app, own_schema
from app.config import psycopg2_url
from app.models import RETENTION_SCHEMA, Base
from app.revisions import alembic_config
from tests.servers import migrated_database, new_database

HERE = Path(__file__).parent
OWN = "own"
VARIANTS = ("govuk-notify", "gc-notify", "us-notify", "va-notify")
PARTITIONED = "govuk-notify-partitioned"
"""govuk-notify, its two large tables partitioned by weeks of created_at."""
ALL = (OWN, *VARIANTS)


WEEKS = """
DO $$
DECLARE
    monday timestamp := date_trunc('week', now() AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format('CREATE TABLE {table}_older PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO (%%L)',
                   monday - interval '8 weeks');
    FOR week IN 0..9 LOOP
        EXECUTE format('CREATE TABLE {table}_%%s PARTITION OF {table} FOR VALUES FROM (%%L) TO (%%L)', week,
                       monday + (week - 8) * interval '1 week', monday + (week - 7) * interval '1 week');
    END LOOP;
END $$;
"""


def load(connection: Connection, name: str, schema: str | None = None) -> None:
    """Make a variant's tables, types and fixed rows in an empty database, or in a new schema of it."""
    if schema is not None:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"'.replace("%", "%%"))
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"'.replace("%", "%%"))
    connection.exec_driver_sql(partitioned() if name == PARTITIONED else (HERE / f"{name}.sql").read_text())


def partitioned() -> str:
    """The statements of govuk-notify with partitions: their keys have created_at, as PostgreSQL demands."""
    made = (HERE / "govuk-notify.sql").read_text()
    for table in ("notifications", "notification_history"):
        before, begin, rest = made.partition(f"CREATE TABLE {table} (")
        columns, _, after = rest.partition("\n);")
        columns = columns.replace("id uuid PRIMARY KEY", "id uuid NOT NULL", 1)
        columns = columns.replace("UNIQUE (job_id, job_row_number)", "UNIQUE (job_id, job_row_number, created_at)")
        columns += ",\n    PRIMARY KEY (id, created_at)"
        made = f"{before}{begin}{columns}\n) PARTITION BY RANGE (created_at);\n{WEEKS.format(table=table)}{after}"
    return made


@contextmanager
def database(server: str, name: str, schema: str | None = None, own_to: str = "heads") -> Iterator[Engine]:
    """An administrator's engine on a new database with these tables, dropped again at the end.

    Of a variant they may be in a schema of that name, which no search path knows. Our own schema has the pipeline's
    tables as well, unless it is made `own_to` "platform@head" alone.
    """
    is_ours_whole = (name, own_to) == (OWN, "heads")
    with migrated_database(server) if is_ours_whole else new_database(server) as url:
        engine = create_engine(psycopg2_url(url), poolclass=NullPool)
        if name != OWN:
            with engine.begin() as connection:
                load(connection, name, schema)
        elif not is_ours_whole:
            command.upgrade(alembic_config(psycopg2_url(url)), own_to)
        yield engine


def with_pipeline(engine: Engine) -> Engine:
    """The same database, now with the pipeline's schema as the engine calls it, if it has none yet."""
    with engine.begin() as connection:
        connection.execute(CreateSchema(own_schema.name(connection), if_not_exists=True))
        tables = [table for table in Base.metadata.tables.values() if table.schema == RETENTION_SCHEMA]
        Base.metadata.create_all(connection, tables)
    return engine


def application_on(engine: Engine, environment: Mapping[str, str], **variables: str) -> Flask:
    """The application on such a database, as its administrator."""
    url = engine.url.render_as_string(hide_password=False)
    return create_app(config.load({**environment, "DATABASE_URL": url, **variables}))
