"""What a user owns: counted up to a limit, and dealt with in batches. Each call is one bounded batch.

Tables and columns come from the plan (`app.accounts.plan`), so that the statements are put together here, with
identifiers quoted and values bound.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from psycopg2 import errors, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

BY_INDEX = text("SELECT set_config('enable_seqscan', 'off', true)")

COLLIDED = (errors.UniqueViolation, errors.DeadlockDetected)
ATTEMPTS_TO_REASSIGN = 5

# The array is chosen first and keeps the planner from reading the whole table. The column is looked at again, since
# a row may have become another user's while the statement waited for it.
BATCH = """
    {key} = ANY (ARRAY(SELECT {key} FROM {table} WHERE {column} = %(user)s LIMIT %(rows)s)) AND {column} = %(user)s
"""
DELETE = f"DELETE FROM {{table}} WHERE {BATCH}"  # noqa: S608 - constants of this module
SET = f"UPDATE {{table}} SET {{column}} = %(to)s WHERE {BATCH}"  # noqa: S608

DELETE_DUPLICATES = """
    DELETE FROM {table} AS own
    WHERE own.ctid = ANY (ARRAY(
              SELECT ctid FROM {table} WHERE {column} = %(user)s ORDER BY {unique_with} LIMIT %(rows)s
          ))
      AND own.{column} = %(user)s
      AND EXISTS (SELECT FROM {table} AS ghosts WHERE ghosts.{column} = %(to)s AND {is_same})
"""
# One by one, in the order of the key that they are about to share, so that two deletions can't wait for each other: one
# statement would update them in whichever order its plan meets them.
PLACES = "SELECT ctid::text FROM {table} WHERE {column} = %(user)s ORDER BY {unique_with} LIMIT %(rows)s"
SET_ONE = "UPDATE {table} SET {column} = %(to)s WHERE ctid = %(place)s::tid AND {column} = %(user)s"

HOLDS_USER = "{column} @> jsonb_build_array(jsonb_build_object(%(json_key)s::text, %(user)s::text))"
REMOVE_FROM_ARRAY = f"""
    UPDATE {{table}}
    SET {{column}} = (SELECT coalesce(jsonb_agg(entry ORDER BY place), '[]')
                      FROM jsonb_array_elements({{column}}) WITH ORDINALITY AS entries (entry, place)
                      WHERE entry ->> %(json_key)s IS DISTINCT FROM %(user)s)
    WHERE {{key}} = ANY (ARRAY(
              SELECT {{key}} FROM {{table}} WHERE {HOLDS_USER} ORDER BY {{key}} LIMIT %(rows)s FOR UPDATE
          ))
      AND {HOLDS_USER}
"""  # noqa: S608

HAS_ROWS = "SELECT {number} WHERE EXISTS (SELECT FROM {table} WHERE {condition})"
IS_USER = "{column} = %(user)s"

COUNT = "SELECT count(*) FROM (SELECT FROM {table} WHERE {column} = %(user)s LIMIT %(rows)s) AS counted"
COUNT_IN_ARRAYS = f"SELECT count(*) FROM (SELECT FROM {{table}} WHERE {HOLDS_USER} LIMIT %(rows)s) AS counted"  # noqa: S608


def read_by_index(connection: Connection) -> None:
    """From here to the end of the transaction, find rows by an index, foreign keys' own checks included.

    The statistics are those of before: where the user had most of a table, the planner would read all of it for a row
    that has gone.
    """
    connection.execute(BY_INDEX)


def delete(connection: Connection, table: str, column: str, user_id: UUID, rows: int, *, key: str) -> int:
    """Delete a batch of the user's rows. Returns how many."""
    return _execute(connection, DELETE, {"user": str(user_id), "rows": rows}, table=table, column=column, key=key)


def give_to(
    connection: Connection, table: str, column: str, user_id: UUID, rows: int, *, key: str, to: UUID | None
) -> int:
    """Write another user's id, or NULL, into a batch of the user's rows. Returns how many."""
    values = {"user": str(user_id), "rows": rows, "to": None if to is None else str(to)}
    return _execute(connection, SET, values, table=table, column=column, key=key)


def give_unique_to(
    connection: Connection,
    table: str,
    column: str,
    user_id: UUID,
    rows: int,
    *,
    unique_with: Iterable[str],
    to: UUID,
) -> int:
    """As `give_to`, where the column is unique together with others: what the other user has already is deleted.

    Another transaction may give that user the same key at the same time; the later one's row is then the duplicate.
    """
    unique = list(unique_with)
    same = sql.SQL(" AND ").join(sql.SQL("ghosts.{0} = own.{0}").format(sql.Identifier(name)) for name in unique)
    names = {"unique_with": sql.SQL(", ").join(map(sql.Identifier, unique)), "is_same": same}
    values = {"user": str(user_id), "rows": rows, "to": str(to)}
    for attempt in range(1, ATTEMPTS_TO_REASSIGN + 1):
        try:
            with connection.begin_nested():
                deleted = _execute(connection, DELETE_DUPLICATES, values, table=table, column=column, **names)
                left = _composed(connection, PLACES, table=table, column=column, **names)
                places = connection.exec_driver_sql(left, values | {"rows": rows - deleted}).scalars().all()
                set_one = _composed(connection, SET_ONE, table=table, column=column)
                return deleted + sum(
                    connection.exec_driver_sql(set_one, values | {"place": place}).rowcount for place in places
                )
        except DBAPIError as error:
            if attempt == ATTEMPTS_TO_REASSIGN or not isinstance(error.orig, COLLIDED):
                raise
    raise AssertionError("the last attempt returns or raises")


def remove_from_arrays(
    connection: Connection, table: str, column: str, user_id: UUID, rows: int, *, key: str, json_key: str
) -> int:
    """Take the user's objects out of the JSON arrays of a batch of rows. Returns how many rows."""
    values = {"user": str(user_id), "rows": rows, "json_key": json_key}
    return _execute(connection, REMOVE_FROM_ARRAY, values, table=table, column=column, key=key)


def with_rows(connection: Connection, user_id: UUID, columns: Sequence[tuple[str, str, str | None]]) -> list[int]:
    """Which of the columns (table, column, and the key in its JSON objects, if any) have a row of the user's.

    By their places in `columns`. One statement for all, since it is asked while others wait for the user's row.
    """
    parts = []
    for number, (table, column, json_key) in enumerate(columns):
        named = {"column": sql.Identifier(column), "json_key": sql.Literal(json_key)}
        condition = sql.SQL(IS_USER if json_key is None else HOLDS_USER.replace("%(json_key)s", "{json_key}"))
        whole = {"number": sql.Literal(number), "table": sql.Identifier(table), "condition": condition.format(**named)}
        parts.append(sql.SQL(HAS_ROWS).format(**whole))
    statement = sql.SQL(" UNION ALL ").join(parts).as_string(connection.connection.dbapi_connection)
    return list(connection.exec_driver_sql(statement, {"user": str(user_id)}).scalars())


def count(connection: Connection, table: str, column: str, user_id: UUID, rows: int, *, json_key: str | None) -> int:
    """How many rows are the user's; counted no further than `rows`."""
    values = {"user": str(user_id), "rows": rows, "json_key": json_key}
    statement = COUNT if json_key is None else COUNT_IN_ARRAYS
    composed = _composed(connection, statement, table=table, column=column)
    return int(connection.exec_driver_sql(composed, values).scalar_one())


def _execute(connection: Connection, statement: str, values: dict[str, object], **names: str | sql.Composable) -> int:
    return connection.exec_driver_sql(_composed(connection, statement, **names), values).rowcount


def _composed(connection: Connection, statement: str, **names: str | sql.Composable) -> str:
    quoted = {name: sql.Identifier(value) if isinstance(value, str) else value for name, value in names.items()}
    return sql.SQL(statement).format(**quoted).as_string(connection.connection.dbapi_connection)
