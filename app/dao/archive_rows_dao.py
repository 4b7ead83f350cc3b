"""History's rows as they are archived: read page by page, compared, deleted, put back.

A page is read in one REPEATABLE READ transaction, so that PostgreSQL's checksums, the rows' versions and the rows
themselves are of one snapshot. Checksums are made of the types' binary forms; the rows are sent as text: what is
compared in the end has come two ways.

`created_at` has no time zone and is in UTC; bounds are aware here.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2 import sql
from psycopg2.extras import execute_values
from sqlalchemy import Connection, text

from app import clock, own_schema
from app.dao import notifications_dao, platform_dao
from app.dao.adoption_sql import quoted
from app.dao.archives_dao import Archive
from app.dao.catalogue import HISTORY, Column
from app.dao.platform import Platform
from app.refusals import CountsDiffer

SENT_BY = {
    "uuid": "uuid_send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "date": "date_send",
    "bool": "boolsend",
    "int2": "int2send",
    "int4": "int4send",
    "int8": "int8send",
    "float4": "float4send",
    "float8": "float8send",
}
"""The functions that give a type's binary form. Values of any other type are archived as their text."""
NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")

# Of each value its binary form in hexadecimal, N for NULL; of a text all the texts, and all their lengths.
CHECKSUM_OF_BINARY = (
    "encode(sha256(convert_to(string_agg(coalesce(encode({send}(r.{column}), 'hex'), 'N'), ''), 'UTF8')), 'hex')"
)
CHECKSUM_OF_TEXT = (
    "encode(sha256(convert_to(coalesce(string_agg(r.{column}::text, ''), '') || '|' || "
    "string_agg(coalesce(length(r.{column}::text)::text, 'N'), ','), 'UTF8')), 'hex')"
)

SETTINGS = """
SELECT set_config('datestyle', 'ISO', true), set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true)
"""

# Rows of services on hold stay, those that others refer to, and those without a service: nobody can tell of these.
ELIGIBLE = """
      h.service_id IS NOT NULL
  AND h.service_id::text NOT IN (SELECT scope FROM retention.holds)
"""

# A window that was looked at in vain is passed over until it is time to look again.
NEXT_WINDOW = """
SELECT h.created_at
FROM {history} AS h
WHERE h.created_at < %(before)s::timestamp AND {eligible}
  AND NOT EXISTS (
      SELECT FROM retention.archives AS a
      WHERE a.table_name = %(table)s AND a.state = 'void' AND a.retry_at > %(now)s
        AND h.created_at >= a.window_from AT TIME ZONE 'UTC' AND h.created_at < a.window_before AT TIME ZONE 'UTC'
  )
ORDER BY h.created_at
LIMIT 1
"""

COUNT_DUE = """
SELECT count(*), min(due.created_at)
FROM (
    SELECT h.created_at FROM {history} AS h
    WHERE h.created_at < %(before)s::timestamp AND {eligible}
    ORDER BY h.created_at
    LIMIT %(at_most)s
) AS due
"""

# The rows after the last one of the page before, in the order of the index on created_at. What is kept of them is
# PostgreSQL's checksum of each column, and each row's version; the subquery's order is that of the aggregates.
READ_PAGE = """
INSERT INTO retention.archive_pages (archive_id, page, checksums, ids, tables, addresses, versions)
SELECT %(archive)s, %(page)s, ARRAY[{checksums}], array_agg(r.id), array_agg(r.row_table::bigint),
       array_agg(r.row_address::text), array_agg(r.row_version::text::bigint)
FROM (
    SELECT h.tableoid AS row_table, h.ctid AS row_address, h.xmin AS row_version, {columns}
    FROM {history} AS h
    WHERE h.created_at >= %(from)s::timestamp AND h.created_at < %(before)s::timestamp
      AND (h.created_at, h.id) > (%(after)s::timestamp, %(after_id)s::uuid)
      AND {eligible}
    ORDER BY h.created_at, h.id
    LIMIT %(limit)s
) AS r
HAVING count(*) > 0
RETURNING cardinality(ids), ids[cardinality(ids)]
"""
CREATED_AT = """
SELECT h.created_at FROM {history} AS h
WHERE h.id = %(id)s AND h.created_at >= %(from)s::timestamp AND h.created_at < %(before)s::timestamp
"""

# The same rows, in the same snapshot, as text.
SEND_PAGE = """
COPY (
    SELECT {values}
    FROM {history} AS h
    WHERE h.created_at >= %(from)s::timestamp AND h.created_at < %(before)s::timestamp
      AND (h.created_at, h.id) > (%(after)s::timestamp, %(after_id)s::uuid)
      AND {eligible}
    ORDER BY h.created_at, h.id
    LIMIT %(limit)s
) TO STDOUT (FORMAT csv)
"""

IN_ORDER = """
SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'on', true),
       set_config('seq_page_cost', '0', true), set_config('random_page_cost', '0', true)
"""
BY_ADDRESS = """
SELECT set_config('enable_hashjoin', %s, true), set_config('enable_mergejoin', %s, true),
       set_config('enable_seqscan', %s, true)
"""

# By address, and only where the row there is the very version that was archived. A version is compared for equality
# alone: which of two is the newer xmin does not tell. The window's bounds leave all partitions but its own aside.
CHOOSE = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT h.tableoid AS row_table, h.ctid AS row_address, h.id, h.created_at
FROM (
    SELECT unnest(p.ids) AS id, unnest(p.tables) AS row_table, unnest(p.addresses)::tid AS row_address,
           unnest(p.versions) AS row_version
    FROM retention.archive_pages AS p
    WHERE p.archive_id = %(archive)s AND p.page = %(page)s
) AS archived
JOIN {history} AS h ON h.ctid = archived.row_address
WHERE h.tableoid::bigint = archived.row_table AND h.xmin::text::bigint = archived.row_version AND h.id = archived.id
  AND h.created_at >= %(from)s::timestamp AND h.created_at < %(before)s::timestamp
FOR UPDATE OF h SKIP LOCKED
"""
# In a statement of its own, after the lock: whoever came to refer to a row, or placed a hold, is seen.
LEAVE_WHAT_STAYS = """
DELETE FROM retention_batch AS b
WHERE NOT EXISTS (
    SELECT FROM {history} AS h
    WHERE h.ctid = b.row_address AND h.tableoid = b.row_table AND {eligible}
)
"""
DELETE_BATCH = """
DELETE FROM {history} AS h
WHERE h.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch))
  AND (h.tableoid, h.ctid) IN (SELECT row_table, row_address FROM retention_batch)
  AND h.created_at >= %(from)s::timestamp AND h.created_at < %(before)s::timestamp
"""
COUNT_BATCH = "SELECT count(*) FROM retention_batch"

# Keys of any action: a row that goes with history's, or loses what it says of it, is as little to be lost.
REFERRING = text(
    """
    SELECT n.nspname AS schema, c.relname AS name,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS key (number, nth)
               JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = key.number ORDER BY key.nth
           ) AS columns,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS key (number, nth)
               JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = key.number ORDER BY key.nth
           ) AS referred,
           has_table_privilege(c.oid, 'SELECT') AS may_read
    FROM pg_constraint AS k
    JOIN pg_class AS c ON c.oid = k.conrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS h ON h.oid = k.confrelid
    JOIN pg_namespace AS s ON s.oid = h.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND h.relname = :table AND s.nspname = :schema
    ORDER BY 1, 2, k.conname
    """
)
NOT_REFERRED_TO = "\n  AND NOT EXISTS (SELECT FROM {table} AS f WHERE {pairs})"

RESTORE = """
INSERT INTO {history} ({names}) VALUES %s
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Table:
    """History as it is now: the columns that are archived, in its order, and what its statements are made of."""

    platform: Platform
    columns: tuple[Column, ...]
    referring: tuple["Referring", ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def parts(self) -> dict[str, str]:
        """What the statements of this module name beside the platform's tables."""
        return {
            "eligible": ELIGIBLE + "".join(key.not_referred_to for key in self.referring),
            "columns": ", ".join(f"h.{_name(column)}" for column in self.columns),
            "values": ", ".join(_value(column) for column in self.columns),
            "checksums": ", ".join(_checksum(column) for column in self.columns),
            "names": ", ".join(_name(column) for column in self.columns),
        }

    def statement(self, template: str) -> str:
        """The template for psycopg2."""
        named = {name: part for name, part in self.parts.items() if f"{{{name}}}" in template}
        return self.platform.driver(template, **named)


@dataclass(frozen=True)
class Referring:
    """A foreign key that points at history."""

    schema: str
    name: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    may_read: bool

    @property
    def not_referred_to(self) -> str:
        """That no row of the table refers to row h, as a part of a condition."""
        pairs = " AND ".join(
            f"f.{_safe(quoted(own))} = h.{_safe(quoted(other))}"
            for own, other in zip(self.columns, self.referred, strict=True)
        )
        table = sql.SQL(_safe(quoted(self.schema, self.name)))
        return sql.SQL(NOT_REFERRED_TO).format(table=table, pairs=sql.SQL(pairs)).as_string(None)


@dataclass(frozen=True)
class Place:
    """A row by which a page begins: the one before it."""

    created_at: datetime
    id: UUID


BEGINNING = UUID(int=0)


def _safe(name: str) -> str:
    return own_schema.theirs(name.replace("%", "%%").replace("{", "{{").replace("}", "}}"))


def _name(column: Column) -> str:
    return _safe(quoted(column.name))


def is_binary(column: Column) -> bool:
    """Whether the column's checksum is made of the values' binary form."""
    return column.type.name in SENT_BY and not column.type.is_enum


def _value(column: Column) -> str:
    is_text = not is_binary(column) and not NUMERIC.fullmatch(column.type.formatted)
    return f"h.{_name(column)}::text" if is_text else f"h.{_name(column)}"


def _checksum(column: Column) -> str:
    if is_binary(column):
        return CHECKSUM_OF_BINARY.format(send=SENT_BY[column.type.name], column=_name(column))
    return CHECKSUM_OF_TEXT.format(column=_name(column))


def table(connection: Connection, left_out: Collection[str]) -> Table:
    """History as it is now. Raises LookupError where there is no such table."""
    platform = platform_dao.checked(connection)
    found = platform.catalogue.tables.get(HISTORY)
    if found is None:
        raise LookupError(HISTORY)
    rows = connection.execute(REFERRING, {"table": HISTORY, "schema": found.schema}).mappings()
    referring = tuple(
        Referring(row["schema"], row["name"], tuple(row["columns"]), tuple(row["referred"]), row["may_read"])
        for row in rows
    )
    columns = tuple(column for column in found.columns.values() if column.name not in left_out)
    return Table(platform, columns, referring)


def next_created_at(connection: Connection, of: Table, before: datetime, now: datetime) -> datetime | None:
    """When the oldest row was created that may be archived, before `before`; None: there is none."""
    connection.exec_driver_sql(IN_ORDER)
    values = {"before": clock.to_column(before), "table": HISTORY, "now": now}
    found = connection.exec_driver_sql(of.statement(NEXT_WINDOW), values).scalar()
    return clock.from_column(found) if found is not None else None


def count_due(connection: Connection, of: Table, before: datetime, at_most: int | None) -> tuple[int, datetime | None]:
    """How many rows before `before` may be archived, at most `at_most` of them counted; when the oldest was created."""
    values = {"before": clock.to_column(before), "at_most": at_most}
    count, oldest = connection.exec_driver_sql(of.statement(COUNT_DUE), values).one()
    return count, clock.from_column(oldest) if oldest is not None else None


def read_page(
    connection: Connection, of: Table, archive: Archive, page: int, after: Place | None, limit: int
) -> tuple[int, Place, bytes] | None:
    """Keep the checksums and versions of the next rows of the window, and return how many they are, the last of them,
    and all of them as CSV. None: there are no more. For a REPEATABLE READ transaction.
    """
    values: dict[str, Any] = {
        **_window(archive),
        "archive": archive.id,
        "page": page,
        "after": clock.to_column(after.created_at if after else archive.window_from),
        "after_id": after.id if after else BEGINNING,
        "limit": limit,
    }
    connection.exec_driver_sql(SETTINGS)
    connection.exec_driver_sql(IN_ORDER)
    row = connection.exec_driver_sql(of.statement(READ_PAGE), values).one_or_none()
    if row is None:
        return None
    last = connection.exec_driver_sql(of.statement(CREATED_AT), {**_window(archive), "id": row[1]}).scalar_one()
    sent = BytesIO()
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor:
        cursor.copy_expert(cursor.mogrify(own_schema.as_called(connection, of.statement(SEND_PAGE)), values), sent)
    return row[0], Place(clock.from_column(last), row[1]), sent.getvalue()


def _window(archive: Archive) -> dict[str, Any]:
    return {"from": clock.to_column(archive.window_from), "before": clock.to_column(archive.window_before)}


@dataclass
class Removal:
    """Rows of a page that are as they were archived, locked, as `app.engine.batch` wants them."""

    connection: Connection
    of: Table
    archive: Archive
    rows: int

    def ids(self) -> list[UUID]:
        """The rows in the batch's temporary table, oldest first."""
        return list(self.connection.exec_driver_sql(notifications_dao.IDS).scalars())

    def remove(self, only: Collection[UUID] | None) -> int:
        """Delete these rows, all of the batch if None. Returns how many. Raises CountsDiffer, DBAPIError."""
        rows = self.rows
        if only is not None:
            self.connection.exec_driver_sql(notifications_dao.KEEP_ONLY, {"ids": list(only)})
            rows = len(only)
        deleted = self.connection.exec_driver_sql(self.of.statement(DELETE_BATCH), _window(self.archive)).rowcount
        if deleted != rows:
            raise CountsDiffer(f"{rows} archived rows were selected, {deleted} were deleted", HISTORY)
        return deleted


def choose(connection: Connection, of: Table, archive: Archive, page: int) -> Removal:
    """Lock those rows of a page that nobody else holds and that are as they were archived."""
    connection.exec_driver_sql(BY_ADDRESS, ("off",) * 3)
    values = {**_window(archive), "archive": archive.id, "page": page}
    connection.exec_driver_sql(of.statement(CHOOSE), values)
    connection.exec_driver_sql(of.statement(LEAVE_WHAT_STAYS))
    # Compared with the batch by a hash: in a nested loop the deletion costs the square of its rows.
    connection.exec_driver_sql(BY_ADDRESS, ("on",) * 3)
    rows: int = connection.exec_driver_sql(COUNT_BATCH).scalar_one()
    return Removal(connection, of, archive, rows)


def restore(connection: Connection, of: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Put rows back that are not there, the values in the order of `names`. Returns how many. Raises DBAPIError's
    kind through psycopg2.
    """
    columns = {column.name: column for column in of.columns if not column.generated}
    known = [name for name in names if name in columns]
    places = [list(names).index(name) for name in known]
    template = "(" + ", ".join(f"%s::{_safe(columns[name].type.formatted)}" for name in known) + ")"
    statement = of.platform.driver(RESTORE, names=", ".join(_safe(quoted(name)) for name in known))
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor:
        taken = [[row[place] for place in places] for row in rows]
        execute_values(cursor, statement, taken, template=template, page_size=max(len(taken), 1))
        inserted: int = cursor.rowcount
    return inserted


DatabaseError = psycopg2.Error
