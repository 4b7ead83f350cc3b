"""The pipeline's own tables beside a platform's: what is in their schema, what goes on there, and its end."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, TextClause, text

from app import own_schema
from app.dao.heartbeats_dao import WORKER_GONE_AFTER
from app.dao.holds_dao import PIPELINE

# By pg_catalog: the role need not be allowed to use the schema.
SCHEMA = text(
    """
    SELECT current_user AS role, n.oid IS NOT NULL AS exists,
           CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                ELSE has_schema_privilege(n.oid, 'CREATE') END AS may_make,
           ARRAY(
               SELECT c.relname::text FROM pg_class AS c
               WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname
           ) AS tables
    FROM (SELECT) AS always LEFT JOIN pg_namespace AS n ON n.nspname = :schema
    """
)
MAY_READ_REVISIONS = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('alembic_version') AND attname = 'version_num' AND NOT attisdropped
          AND has_column_privilege(attrelid, attnum, 'SELECT')
    )
    """
)
NIGHTS = text("SELECT count(*) FROM retention.runs")

# What would be forgotten: each question with the table that it is about, since an older installation lacks some.
GOING_ON: dict[str, tuple[str, TextClause]] = {
    "workers": (
        "heartbeats",
        text("SELECT count(*) FROM retention.heartbeats WHERE kind = 'worker' AND seen_at >= :workers_since"),
    ),
    "types_not_begun": ("run_types", text("SELECT count(*) FROM retention.run_types WHERE fanned_out_at IS NULL")),
    "chains_waiting": ("chains", text("SELECT count(*) FROM retention.chains WHERE state = 'waiting'")),
    "chains_resting": ("chains", text("SELECT count(*) FROM retention.chains WHERE state = 'resting'")),
    "intents": ("intents", text("SELECT count(*) FROM retention.intents")),
    "deferred_rows": ("deferred_rows", text("SELECT count(*) FROM retention.deferred_rows")),
    "deferred_buckets": ("deferred_buckets", text("SELECT count(*) FROM retention.deferred_buckets")),
    "holds": ("holds", text("SELECT count(*) FROM retention.holds WHERE scope <> :pipeline")),
    "audits": ("audits", text("SELECT count(*) FROM retention.audits WHERE finished_at IS NULL AND NOT abandoned")),
}

LOCK = "LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
DROP_TABLES = "DROP TABLE {tables}"
DROP_FUNCTIONS = "DROP FUNCTION IF EXISTS {schema}.require_record_of_lift(), {schema}.record_status(uuid, text)"
DROP_SCHEMA = "DROP SCHEMA {schema}"


@dataclass(frozen=True)
class Schema:
    """What is in our schema: tables and views by name. `may_make`: whether our role may make what is missing."""

    name: str
    role: str
    exists: bool
    may_make: bool
    tables: frozenset[str]


def schema(connection: Connection) -> Schema:
    """What there is."""
    name = own_schema.name(connection)
    found = connection.execute(SCHEMA, {"schema": name}).mappings().one()
    return Schema(name, found["role"], found["exists"], found["may_make"], frozenset(found["tables"]))


def may_read_revisions(connection: Connection) -> bool:
    """Whether there is an `alembic_version` of the platform's, or of ours, that our role may read."""
    return bool(connection.execute(MAY_READ_REVISIONS).scalar_one())


def nights(connection: Connection) -> int:
    """Of how many nights there are records."""
    return int(connection.execute(NIGHTS).scalar_one())


def going_on(connection: Connection, tables: Collection[str], now: datetime) -> dict[str, int]:
    """How many there are of what is not over, by the names of GOING_ON; those of which there is none are left out."""
    values: dict[str, Any] = {"workers_since": now - WORKER_GONE_AFTER, "pipeline": PIPELINE}
    counts = {
        name: int(connection.execute(question, {key: values[key] for key in question.compile().params}).scalar_one())
        for name, (table, question) in GOING_ON.items()
        if table in tables
    }
    return {name: count for name, count in counts.items() if count}


def lock(connection: Connection, tables: Collection[str]) -> None:
    """Nobody reads or writes these until the commit."""
    _execute(connection, LOCK, tables)


def drop(connection: Connection, tables: Collection[str]) -> None:
    """These tables, what their triggers call, and the schema, if nothing else is in it and nothing outside depends on
    them.
    """
    _execute(connection, DROP_TABLES, tables)
    _execute(connection, DROP_FUNCTIONS, tables)
    _execute(connection, DROP_SCHEMA, tables)


def _execute(connection: Connection, statement: str, tables: Collection[str]) -> None:
    schema = own_schema.name(connection)
    named = sql.SQL(", ").join(sql.Identifier(schema, table) for table in sorted(tables))
    composed = sql.SQL(statement).format(tables=named, schema=sql.Identifier(schema))
    connection.exec_driver_sql(composed.as_string(connection.connection.dbapi_connection))
