"""What the database says of itself: who we are there, what we may do, which indexes there are, what its clock says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from app import own_schema
from app.dao import platform_dao
from app.dao.platform import Platform
from app.models.types import LETTER

ROLE = text(
    """
    SELECT rolsuper AS is_superuser, rolcreaterole OR rolcreatedb OR rolreplication AS has_attributes,
           rolbypassrls AS passes_over_policies,
           pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_statistics
    FROM pg_roles WHERE rolname = current_user
    """
)
CLOSED_SCHEMAS = text(
    "SELECT nspname FROM pg_namespace WHERE nspname = ANY (:names) AND NOT has_schema_privilege(oid, 'USAGE') "
    "ORDER BY 1"
)
CLOCK = text("SELECT clock_timestamp()")
LACKING = text(
    """
    SELECT wanted.privilege || ' ON ' || wanted.table_name
    FROM unnest(CAST(:tables AS text[]), CAST(:privileges AS text[])) AS wanted (table_name, privilege)
    WHERE to_regclass(wanted.table_name) IS NOT NULL
      AND NOT has_table_privilege(wanted.table_name, wanted.privilege)
      AND NOT (wanted.privilege IN ('SELECT', 'INSERT', 'UPDATE')
               AND has_any_column_privilege(wanted.table_name, wanted.privilege))
    ORDER BY 1
    """
)
HELD = text(
    """
    SELECT unwanted.privilege || ' ON ' || unwanted.table_name
    FROM unnest(CAST(:tables AS text[]), CAST(:privileges AS text[])) AS unwanted (table_name, privilege)
    WHERE to_regclass(unwanted.table_name) IS NOT NULL AND has_table_privilege(unwanted.table_name, unwanted.privilege)
    ORDER BY 1
    """
)
# By what they are and not by their names: another platform's are called otherwise.
INDEXES = text(
    """
    SELECT array_agg(a.attname::text ORDER BY key.place) AS columns, i.indisunique AS is_unique,
           pg_get_expr(i.indpred, i.indrelid) AS predicate
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS key (attnum, place)
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am ON pg_am.oid = c.relam
    LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
    WHERE i.indrelid = to_regclass(:table) AND i.indisvalid AND i.indisready AND pg_am.amname = 'btree'
    GROUP BY i.indexrelid, i.indisunique, i.indpred, i.indrelid
    """
)
LONGEST_OF_LETTERS = (
    "SELECT max(days_of_retention) FROM {retentions} WHERE notification_type = CAST(:letter AS {retention_type})"
)


@dataclass(frozen=True)
class Role:
    """What our role is. `has_attributes`: may create roles or databases, or replicate."""

    is_superuser: bool
    has_attributes: bool
    passes_over_policies: bool
    reads_statistics: bool


@dataclass(frozen=True)
class Index:
    """A valid B-tree index: its columns in order, None where there is an expression, and what it leaves out."""

    columns: tuple[str | None, ...]
    is_unique: bool
    predicate: str | None


def role(connection: Connection) -> Role:
    """Our role."""
    return Role(**connection.execute(ROLE).one()._mapping)


def clock_says(connection: Connection) -> datetime:
    """The server's time (aware)."""
    return connection.execute(CLOCK).scalar_one()


def closed_schemas(connection: Connection, names: Sequence[str]) -> list[str]:
    """Of these schemas, those whose tables our role can't even name."""
    return list(connection.execute(CLOSED_SCHEMAS, {"names": list(names)}).scalars())


def lacking(connection: Connection, wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Of these tables and privileges, those that our role has not. Of some columns is enough."""
    return list(connection.execute(LACKING, _columns(connection, wanted)).scalars())


def held(connection: Connection, unwanted: Sequence[tuple[str, str]]) -> list[str]:
    """Of these tables and privileges, those that our role has."""
    return list(connection.execute(HELD, _columns(connection, unwanted)).scalars())


def indexes(connection: Connection, table: str) -> list[Index]:
    """The table's indexes that can be used."""
    rows = connection.execute(INDEXES, {"table": _named(connection, platform_dao.known(connection), table)})
    return [Index(tuple(row.columns), row.is_unique, row.predicate) for row in rows]


def longest_retention_of_letters(connection: Connection) -> int | None:
    """In days, of the services that have one of their own."""
    platform = platform_dao.known(connection)
    values = {"letter": platform.a_type_of_retention(LETTER)}
    return connection.execute(platform.clause(LONGEST_OF_LETTERS), values).scalar()


def _columns(connection: Connection, pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    platform = platform_dao.known(connection)  # once: where a table is missing it is read anew each time
    return {
        "tables": [_named(connection, platform, table) for table, _ in pairs],
        "privileges": [privilege for _, privilege in pairs],
    }


def _named(connection: Connection, platform: Platform, table: str) -> str:
    return own_schema.as_called(connection, platform.named(table))
