"""Alembic's environment: each migration in a transaction of its own, with lock and statement time-outs.

A migration that has to wait for a lock makes every query behind it wait too, so it gives up after
LOCK_TIMEOUT and is started again when the table is quiet.

Which branches there are, and where the table of revisions is, is in the configuration (`app.revisions`).
"""

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, inspect, pool, text
from sqlalchemy.schema import CreateSchema

from app import own_schema
from app.config import psycopg2_url
from app.dao import revisions_dao
from app.db import ISOLATION, connect_args, explicit
from app.models import RETENTION_SCHEMA, Base
from app.revisions import OWN_SCHEMA_OPTION

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "15min"


def _url() -> str:
    return context.config.get_main_option("sqlalchemy.url") or psycopg2_url(os.environ.get("DATABASE_URL", ""))


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name in (None, RETENTION_SCHEMA)


def run() -> None:
    """Run what the command asked for, against DATABASE_URL or the URL that the caller configured."""
    schema = context.config.get_main_option("version_table_schema")
    ours = context.config.get_main_option(OWN_SCHEMA_OPTION, RETENTION_SCHEMA)
    options = {
        "target_metadata": Base.metadata,
        "include_schemas": True,
        "include_name": _ours,
        "compare_type": True,
        "compare_server_default": True,
        "transaction_per_migration": True,
        "version_table_schema": schema,
        OWN_SCHEMA_OPTION: ours,
    }
    if context.is_offline_mode():
        if ours != RETENTION_SCHEMA:
            raise CommandError(f"--sql writes of the schema {RETENTION_SCHEMA} alone: RETENTION_SCHEMA is {ours}")
        context.configure(url=_url(), literal_binds=True, **options)
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
        with context.begin_transaction():
            context.run_migrations()
        return
    made = create_engine(_url(), poolclass=pool.NullPool, isolation_level=ISOLATION, connect_args=connect_args(_url()))
    engine = explicit(own_schema.use(made, ours))
    with engine.connect() as connection:
        connection.execute(text("SELECT set_config('lock_timeout', :time, false)"), {"time": LOCK_TIMEOUT})
        connection.execute(text("SELECT set_config('statement_timeout', :time, false)"), {"time": STATEMENT_TIMEOUT})
        connection.commit()
        context.configure(connection=connection, **options)
        if not context.get_context().opts.get("dont_mutate"):  # a command that only looks, as `current` does
            _prepare(connection, schema)
        with context.begin_transaction():
            context.run_migrations()


def _prepare(connection: Connection, schema: str | None) -> None:
    """What must be there before Alembic reads where it is: its table's schema, and a row for each branch."""
    if schema is not None:
        if not inspect(connection).has_schema(schema):
            connection.execute(CreateSchema(schema))
    else:
        revisions_dao.split_single_line(connection)
    connection.commit()


run()
