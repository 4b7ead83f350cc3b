"""What a user owns: counted up to a limit, and dealt with in batches. Each call is one bounded batch.

Tables and columns come from the plan (`app.dao.deletion_plan`), so that the statements are put together here, with
identifiers quoted and values bound.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg2 import errors, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

BY_INDEX = text("SELECT set_config('enable_seqscan', 'off', true)")

COLLIDED = (errors.UniqueViolation, errors.DeadlockDetected)
ATTEMPTS_TO_REASSIGN = 5

# How a row is known to be the user's.
IS_USER = "{column} = %(user)s"
IS_ADDRESS = "lower({column}) = lower(%(address)s)"
HOLDS_USER = "{column} @> jsonb_build_array(jsonb_build_object({json_key}::text, %(user)s::text))"

# The array is chosen first and keeps the planner from reading the whole table. The row is looked at again, since it may
# have become another user's while the statement waited for it.
BATCH = """
    {key} = ANY (ARRAY(SELECT {key} FROM {table} WHERE {is_users} {among} LIMIT %(rows)s)) AND {is_users}
"""
DELETE = f"DELETE FROM {{table}} WHERE {BATCH}"  # noqa: S608 - constants of this module
SET = f"UPDATE {{table}} SET {{column}} = %(to)s WHERE {BATCH}"  # noqa: S608

DELETE_DUPLICATES = """
    DELETE FROM {table} AS own
    WHERE own.ctid = ANY (ARRAY(
              SELECT ctid FROM {table} WHERE {is_users} {among} ORDER BY {unique_with} LIMIT %(rows)s
          ))
      AND own.{column} = %(user)s
      AND EXISTS (SELECT FROM {table} AS ghosts WHERE ghosts.{column} = %(to)s AND {is_same})
"""
# One by one, in the order of the key that they are about to share, so that two deletions can't wait for each other: one
# statement would update them in whichever order its plan meets them.
PLACES = "SELECT ctid::text FROM {table} WHERE {is_users} {among} ORDER BY {unique_with} LIMIT %(rows)s"
SET_ONE = "UPDATE {table} SET {column} = %(to)s WHERE ctid = %(place)s::tid AND {is_users}"

REMOVE_FROM_ARRAY = """
    UPDATE {table}
    SET {column} = (SELECT coalesce(jsonb_agg(entry ORDER BY place), '[]')
                    FROM jsonb_array_elements({column}) WITH ORDINALITY AS entries (entry, place)
                    WHERE entry ->> {json_key} IS DISTINCT FROM %(user)s)
    WHERE {key} = ANY (ARRAY(
              SELECT {key} FROM {table} WHERE {is_users} {among} ORDER BY {key} LIMIT %(rows)s FOR UPDATE
          ))
      AND {is_users}
"""

AMONG = "AND {key} = ANY (%(keys)s::{key_type}[])"
KEYS = """
    SELECT {key}::text FROM {table} WHERE {is_users} AND {key} <> ALL (%(passed_over)s::{key_type}[]) LIMIT %(rows)s
"""
HAS_ROWS = "SELECT {number} WHERE EXISTS (SELECT FROM {table} WHERE {is_users})"
COUNT = "SELECT count(*) FROM (SELECT FROM {table} WHERE {is_users} LIMIT %(rows)s) AS counted"
OF_SERVICES = text(
    """
    SELECT name FROM unnest(CAST(:tables AS text[])) AS name
    WHERE EXISTS (SELECT FROM pg_attribute
                  WHERE attrelid = to_regclass(quote_ident(name)) AND attname = 'service_id' AND NOT attisdropped)
    """
)
IS_OF_SERVICES = """
    SELECT 1 WHERE EXISTS (
        SELECT FROM {table} WHERE {is_users} AND service_id = ANY (%(services)s::uuid[])
    )
"""


@dataclass(frozen=True)
class User:
    """Whose rows are meant: by the id, or by the address, which is None once the user's row is gone."""

    id: UUID
    address: str | None

    @property
    def values(self) -> dict[str, object]:
        return {"user": str(self.id), "address": self.address}


@dataclass(frozen=True)
class Owned:
    """A column by which rows are a user's.

    `key` tells the table's rows apart: ctid, or a column of UUIDs. `json_key` is where the id is in the objects of a
    JSON array. A column that `holds_address` has an address instead of an id, in whichever case.
    """

    table: str
    column: str
    key: str = field(default="ctid", kw_only=True)
    json_key: str | None = field(default=None, kw_only=True)
    holds_address: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def parts(self) -> dict[str, sql.Composable]:
        """What a statement about the column is put together from."""
        named = {"column": sql.Identifier(self.column), "json_key": sql.Literal(self.json_key)}
        is_users = HOLDS_USER if self.json_key else IS_ADDRESS if self.holds_address else IS_USER
        return named | {
            "table": sql.Identifier(self.table),
            "key": sql.Identifier(self.key),
            "key_type": sql.Identifier("tid" if self.key == "ctid" else "uuid"),
            "is_users": sql.SQL(is_users).format(**named),
        }


def read_by_index(connection: Connection) -> None:
    """From here to the end of the transaction, find rows by an index, foreign keys' own checks included.

    The statistics are those of before: where the user had most of a table, the planner would read all of it for a row
    that has gone.
    """
    connection.execute(BY_INDEX)


@dataclass(frozen=True)
class Batch:
    """At most so many of the user's rows in a column; with `keys`, only of those."""

    owned: Owned
    user: User
    rows: int
    keys: Sequence[str] | None = None

    def execute(self, connection: Connection, statement: str, **more: object) -> int:
        values, names = self.values, {}
        for name, value in more.items():
            if isinstance(value, sql.Composable):
                names[name] = value
            else:
                values[name] = value
        return connection.exec_driver_sql(self.composed(connection, statement, **names), values).rowcount

    @property
    def values(self) -> dict[str, object]:
        return {**self.user.values, "rows": self.rows, "keys": None if self.keys is None else list(self.keys)}

    def composed(self, connection: Connection, statement: str, **names: sql.Composable) -> str:
        parts = self.owned.parts
        among = sql.SQL("" if self.keys is None else AMONG).format(**parts)
        return _composed(connection, statement, **parts, among=among, **names)


def delete(connection: Connection, batch: Batch) -> int:
    """Delete a batch of the user's rows. Returns how many."""
    return batch.execute(connection, DELETE)


def give_to(connection: Connection, batch: Batch, *, to: UUID | None) -> int:
    """Write another user's id, or NULL, into a batch of the user's rows. Returns how many."""
    return batch.execute(connection, SET, to=None if to is None else str(to))


def give_unique_to(connection: Connection, batch: Batch, *, unique_with: Iterable[str], to: UUID) -> int:
    """As `give_to`, where the column is unique together with others: what the other user has already is deleted.

    Another transaction may give that user the same key at the same time; the later one's row is then the duplicate.
    """
    unique = list(unique_with)
    same = sql.SQL(" AND ").join(sql.SQL("ghosts.{0} = own.{0}").format(sql.Identifier(name)) for name in unique)
    names = {"unique_with": sql.SQL(", ").join(map(sql.Identifier, unique)), "is_same": same}
    for attempt in range(1, ATTEMPTS_TO_REASSIGN + 1):
        try:
            with connection.begin_nested():
                deleted = batch.execute(connection, DELETE_DUPLICATES, to=str(to), **names)
                left = batch.composed(connection, PLACES, **names)
                values = batch.values | {"rows": batch.rows - deleted}
                places = connection.exec_driver_sql(left, values).scalars().all()
                return deleted + sum(batch.execute(connection, SET_ONE, to=str(to), place=place) for place in places)
        except DBAPIError as error:
            if attempt == ATTEMPTS_TO_REASSIGN or not isinstance(error.orig, COLLIDED):
                raise
    raise AssertionError("the last attempt returns or raises")


def remove_from_arrays(connection: Connection, batch: Batch) -> int:
    """Take the user's objects out of the JSON arrays of a batch of rows. Returns how many rows."""
    return batch.execute(connection, REMOVE_FROM_ARRAY)


def keys(connection: Connection, batch: Batch, passed_over: Sequence[str]) -> list[str]:
    """The keys of a batch of the user's rows, without some."""
    values = batch.values | {"passed_over": list(passed_over)}
    return list(connection.exec_driver_sql(batch.composed(connection, KEYS), values).scalars())


def with_rows(connection: Connection, user: User, columns: Sequence[Owned]) -> list[int]:
    """Which of the columns have a row of the user's, by their places in `columns`.

    One statement for all, since it is asked while others wait for the user's row.
    """
    parts = [
        sql.SQL(HAS_ROWS).format(number=sql.Literal(number), **owned.parts) for number, owned in enumerate(columns)
    ]
    statement = sql.SQL(" UNION ALL ").join(parts).as_string(connection.connection.dbapi_connection)
    return list(connection.exec_driver_sql(statement, user.values).scalars())


def is_any_of_services(
    connection: Connection, user: User, columns: Sequence[Owned], services: Collection[UUID]
) -> bool:
    """Whether a row of one of these services is the user's by one of the columns. Tables whose rows are not of a
    service are passed over.
    """
    tables = sorted({owned.table for owned in columns})
    of_services = set(connection.execute(OF_SERVICES, {"tables": tables}).scalars())
    parts = [sql.SQL(IS_OF_SERVICES).format(**owned.parts) for owned in columns if owned.table in of_services]
    if not parts:
        return False
    statement = sql.SQL(" UNION ALL ").join(parts).as_string(connection.connection.dbapi_connection)
    values = user.values | {"services": [str(service) for service in services]}
    return connection.exec_driver_sql(statement, values).first() is not None


def count(connection: Connection, owned: Owned, user: User, rows: int) -> int:
    """How many rows are the user's; counted no further than `rows`."""
    composed = _composed(connection, COUNT, **owned.parts)
    return int(connection.exec_driver_sql(composed, {**user.values, "rows": rows}).scalar_one())


def _composed(connection: Connection, statement: str, **names: sql.Composable) -> str:
    return sql.SQL(statement).format(**names).as_string(connection.connection.dbapi_connection)
