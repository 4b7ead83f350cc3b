"""What the server says of itself, and of what lies around the tables: facts for `app.state.preconditions`."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection, text

from app import own_schema
from app.dao.catalogue import Table

SERVER = text(
    """
    SELECT pg_is_in_recovery() AS is_replica,
           current_setting('default_transaction_read_only') = 'on' AS is_read_only,
           current_setting('fsync') = 'off' AS is_careless,
           coalesce(extract(epoch FROM current_setting('transaction_timeout', true)::interval), 0)::float
               AS transaction_timeout_seconds
    """
)

# Of a table without a replica identity PostgreSQL refuses what a publication sends on by it.
PUBLICATIONS = text(
    """
    SELECT n.nspname AS schema, c.relname AS table, string_agg(p.pubname, ', ' ORDER BY p.pubname) AS names,
           bool_or(p.pubupdate) AS updates, bool_or(p.pubdelete) AS deletes
    FROM pg_publication_tables AS t
    JOIN pg_publication AS p ON p.pubname = t.pubname
    JOIN pg_namespace AS n ON n.nspname = t.schemaname
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE c.relname = ANY (:tables) AND (p.pubupdate OR p.pubdelete)
      AND NOT (c.relreplident = 'f'
               OR EXISTS (SELECT FROM pg_index AS i
                          WHERE i.indrelid = c.oid AND i.indisvalid
                            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                                    WHEN 'i' THEN i.indisreplident ELSE false END))
    GROUP BY n.nspname, c.relname
    """
)

# A role that may not read a sequence gets NULL, as for one that never gave a number.
# Of tables that the role inserts into: of others it draws no number, and may not even read them.
SEQUENCES = text(
    """
    SELECT t.relname AS table, a.attname AS column, s.relname AS sequence,
           coalesce(CASE WHEN has_sequence_privilege(s.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.oid) END, 0)
               AS last,
           has_sequence_privilege(s.oid, 'USAGE, SELECT') AND has_table_privilege(t.oid, 'SELECT') AS is_known
    FROM pg_depend AS d
    JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_class AS t ON t.oid = d.refobjid
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND n.nspname = :schema AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(t.oid, 'INSERT')
    ORDER BY t.relname
    """
)
LARGEST = "SELECT max({column}) FROM {table}"
# After LARGEST, and by itself: whoever inserts in the meantime has drawn a number first, which this one knows.
LAST_NOW = "SELECT coalesce(pg_sequence_last_value(format('%%I.%%I', %(schema)s, %(sequence)s)::regclass), 0)"

# PostgreSQL 18 has a most, -1 for none. A partitioned table itself has no rows.
VACUUMING = text(
    """
    SELECT n.nspname AS schema, c.relname AS table, greatest(c.reltuples, 0)::bigint AS rows,
           CASE WHEN own.enabled AND current_setting('autovacuum')::boolean
                THEN least(own.threshold + own.scale_factor * greatest(c.reltuples, 0), own.most)::bigint
           END AS starts_at
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT coalesce(max(value) FILTER (WHERE name = 'autovacuum_enabled')::boolean, true) AS enabled,
               coalesce(max(value) FILTER (WHERE name = 'autovacuum_vacuum_threshold'),
                        current_setting('autovacuum_vacuum_threshold'))::float AS threshold,
               coalesce(max(value) FILTER (WHERE name = 'autovacuum_vacuum_scale_factor'),
                        current_setting('autovacuum_vacuum_scale_factor'))::float AS scale_factor,
               nullif(coalesce(max(value) FILTER (WHERE name = 'autovacuum_vacuum_max_threshold'),
                               current_setting('autovacuum_vacuum_max_threshold', true)), '-1')::float AS most
        FROM (SELECT split_part(option, '=', 1) AS name, split_part(option, '=', 2) AS value
              FROM unnest(c.reloptions) AS option) AS options
    ) AS own
    WHERE n.nspname = :schema AND c.relname = :table AND c.relkind = 'r'
    """
)

# Of a partitioned table once, and not again for each of its partitions.
REFERENCES_TO_USERS = text(
    """
    SELECT k.conrelid::regclass::text AS table_name,
           array_agg(a.attname::text ORDER BY key.place) AS column_names,
           k.conname::text AS constraint_name
    FROM pg_constraint AS k
    CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS key (number, place)
    JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = key.number
    WHERE k.contype = 'f' AND k.confrelid = to_regclass('users') AND k.conparentid = 0
    GROUP BY k.oid, k.conrelid, k.conname
    ORDER BY table_name, column_names
    """
)


@dataclass(frozen=True)
class Server:
    """What the server is, for our role. A time-out of 0 is none."""

    is_replica: bool
    is_read_only: bool
    is_careless: bool
    transaction_timeout_seconds: float


@dataclass(frozen=True)
class Unidentified:
    """A table without a replica identity, in publications (their names) that send on its updates or deletes."""

    schema: str
    table: str
    names: str
    updates: bool
    deletes: bool


@dataclass(frozen=True)
class Behind:
    """A sequence of ours that gives numbers which its table has already."""

    table: str
    column: str
    sequence: str
    last: int
    largest: int


@dataclass(frozen=True)
class Vacuuming:
    """When autovacuum begins with a table: once `starts_at` rows are dead; never if that is None."""

    schema: str
    table: str
    rows: int
    starts_at: int | None


def vacuuming(connection: Connection, table: Table | None) -> Vacuuming | None:
    """How a table is vacuumed; None if there is none, or it is partitioned."""
    if table is None:
        return None
    row = connection.execute(VACUUMING, {"schema": table.schema, "table": table.name}).one_or_none()
    return None if row is None else Vacuuming(*row)


def server(connection: Connection) -> Server:
    """The server, with the settings that hold for our role."""
    return Server(**connection.execute(SERVER).one()._mapping)


def unidentified(connection: Connection, tables: Iterable[tuple[str, str]]) -> tuple[Unidentified, ...]:
    """Of these tables (schema and name), those whose rows PostgreSQL would refuse to change or to delete."""
    ours = set(tables)
    rows = connection.execute(PUBLICATIONS, {"tables": sorted({name for _, name in ours})})
    return tuple(found for row in rows if (found := Unidentified(*row)) and (found.schema, found.table) in ours)


@dataclass(frozen=True)
class Sequences:
    """What is known of the sequences of our schema: those behind their tables, and those that the role may not read."""

    behind: tuple[Behind, ...] = ()
    unreadable: tuple[str, ...] = ()


def sequences(connection: Connection) -> Sequences:
    """How far the sequences of our schema are. A switch to a logical replica leaves them behind their tables."""
    schema = own_schema.name(connection)
    found: list[Behind] = []
    unreadable: list[str] = []
    for row in connection.execute(SEQUENCES, {"schema": schema}).all():
        if not row.is_known:
            unreadable.append(row.sequence)
            continue
        statement = sql.SQL(LARGEST).format(column=sql.Identifier(row.column), table=sql.Identifier(schema, row.table))
        largest = connection.exec_driver_sql(
            statement.as_string(connection.connection.dbapi_connection)
        ).scalar_one_or_none()
        if largest is None or largest <= row.last:
            continue
        last = connection.exec_driver_sql(LAST_NOW, {"schema": schema, "sequence": row.sequence}).scalar_one()
        if largest > last:
            found.append(Behind(row.table, row.column, row.sequence, last, largest))
    return Sequences(tuple(found), tuple(unreadable))


@dataclass(frozen=True)
class Reference:
    """A foreign key to `users`. The table has its schema's name where the search path does not find it."""

    table: str
    columns: tuple[str, ...]
    constraint: str

    @property
    def name(self) -> str:
        return f"{self.table}.{', '.join(self.columns)}"


def references_to_users(connection: Connection) -> list[Reference]:
    """Every foreign key to `users`; none where there is no such table."""
    return [Reference(row[0], tuple(row[1]), row[2]) for row in connection.execute(REFERENCES_TO_USERS)]
