"""Choosing, moving and deleting notifications. Rows are chosen once; from then on only those rows' ids flow.

Cut-offs and bounds are aware datetimes here and naive UTC in the columns.

The choice must read the index on (service_id, notification_type, created_at) in order and stop at the limit. The
planner left alone walks the index on created_at for the largest services, filtering everyone else's rows, and
sorts where its statistics are stale. So the bounds are hidden from it, as `(SELECT …)`, and the transaction
counts tuples instead of pages and does not sort: the index that reads the fewest rows in order wins, at any
size (docs/adr/0005).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2 import sql
from sqlalchemy import Connection, text

from app import clock
from app.db import db
from app.errors import BadArgument
from app.models.types import STATUSES

BEGINNING_OF_TIME = datetime(1, 1, 1)  # noqa: DTZ001 - for a timestamp without time zone

REAL, TEST = "real", "test"
_KIND = {REAL: "n.key_type <> 'test'", TEST: "n.key_type = 'test'"}


class HistoryNotCovered(RuntimeError):
    """notification_history has columns that notifications lacks, so that rows can't be moved whole."""


class CountsDiffer(RuntimeError):
    """The rows written or deleted are not the rows selected for the move. The transaction must be rolled back."""


@dataclass(frozen=True)
class Scope:
    """Which rows: of one service, type and kind, with `created_from <= created_at < created_before` (aware).

    For letters, `statuses_kept` stay, and so do NULL ones; when `statuses_only` is given, all others stay, too.
    Letters that are deferred beyond `now` stay.
    """

    service_id: UUID
    notification_type: str
    kind: str
    created_before: datetime
    created_from: datetime | None = None
    now: datetime | None = None
    statuses_kept: Collection[str] = ()
    statuses_only: Collection[str] | None = None

    @property
    def is_letter(self) -> bool:
        return self.notification_type == "letter"

    def values(self) -> dict[str, object]:
        """The values that the statements of this module bind."""
        created_from = clock.to_column(self.created_from) if self.created_from else BEGINNING_OF_TIME
        return {
            "service_id": self.service_id,
            "notification_type": self.notification_type,
            "created_from": created_from,
            "created_before": clock.to_column(self.created_before),
            "now": self.now or clock.now(),
            "statuses_kept": list(self.statuses_kept),
            "statuses_only": None if self.statuses_only is None else list(self.statuses_only),
        }


@dataclass(frozen=True)
class LetterRow:
    """What is needed of a letter to find its files and to move it. created_at is aware, in UTC."""

    id: UUID
    created_at: datetime
    reference: str | None
    status: str | None
    key_type: str
    postage: str | None


@dataclass(frozen=True)
class Batch:
    """Rows that were taken: how many, and the least and largest created_at among them (aware; None if none)."""

    rows: int
    first: datetime | None
    last: datetime | None


READ_IN_INDEX_ORDER = """
SELECT set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'on', true),
       set_config('seq_page_cost', '0', true), set_config('random_page_cost', '0', true)
"""

OVERDUE = """
      n.service_id = (SELECT %(service_id)s::uuid)
  AND n.notification_type = %(notification_type)s
  AND n.created_at >= (SELECT %(created_from)s::timestamp)
  AND n.created_at < (SELECT %(created_before)s::timestamp)
"""

# NOT IN, not NOT EXISTS: the planner hashes the deferred ids once and keeps reading the index in order.
FINAL_AND_NOT_DEFERRED = """
  AND n.notification_status <> ALL (%(statuses_kept)s::text[])
  AND (%(statuses_only)s::text[] IS NULL OR n.notification_status = ANY (%(statuses_only)s::text[]))
  AND n.id NOT IN (SELECT notification_id FROM retention.deferred_letters
                   WHERE service_id = %(service_id)s AND next_attempt_at > %(now)s)
"""

OLDEST_FIRST = """
ORDER BY n.created_at, n.id
LIMIT %(limit)s
FOR UPDATE OF n SKIP LOCKED
"""

CHOOSE_LETTERS = """
SELECT n.id, n.created_at, n.reference, n.notification_status, n.key_type, n.postage
FROM notifications AS n
WHERE {eligible}
{oldest_first}
"""

TAKE_MESSAGES = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT n.ctid AS row_address, {columns}
FROM notifications AS n
WHERE {eligible}
{oldest_first}
"""

# The rows were locked by CHOOSE_LETTERS in this transaction: they are as they were.
TAKE_THESE = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT n.ctid AS row_address, {columns}
FROM notifications AS n
WHERE n.id = ANY (%(ids)s::uuid[])
"""

MEASURE_BATCH = "SELECT count(*), min(created_at), max(created_at) FROM retention_batch"

# Where history has the id already, the newer of the two wins with all its columns, the live row on a tie.
INTO_HISTORY = """
INSERT INTO notification_history ({columns})
SELECT {columns} FROM retention_batch
ON CONFLICT (id) DO UPDATE SET {assignments}
WHERE coalesce(excluded.updated_at, excluded.created_at)
   >= coalesce(notification_history.updated_at, notification_history.created_at)
"""

NOT_IN_HISTORY = """
SELECT count(*) FROM retention_batch AS b
WHERE NOT EXISTS (SELECT FROM notification_history AS h WHERE h.id = b.id)
"""

# By address: no look-up, and safe because the rows are locked, so that nothing moves them.
DELETE_BATCH = """
DELETE FROM notifications AS n WHERE n.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch))
"""

HISTORY_COLUMNS = """
SELECT a.attname, EXISTS (
           SELECT FROM pg_attribute AS live
           WHERE live.attrelid = 'notifications'::regclass AND live.attname = a.attname
             AND live.attnum > 0 AND NOT live.attisdropped
       )
FROM pg_attribute AS a
WHERE a.attrelid = 'notification_history'::regclass
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""

# Keys are in upper case, references need not be. Only ids outside of the batch are of interest.
SHARING_REFERENCES = """
SELECT n.id, n.created_at, n.reference, n.notification_status, n.key_type, n.postage
FROM notifications AS n
WHERE n.reference = ANY (%(references)s::text[]) AND n.notification_type = 'letter'
  AND n.id <> ALL (%(ids)s::uuid[])
"""

ANY_LEFT = "SELECT EXISTS (SELECT FROM notifications AS n WHERE {eligible})"

COUNT_NOT_FINAL = """
SELECT count(*) FROM (
    SELECT FROM notifications AS n
    WHERE {overdue} AND {kind}
      AND (n.notification_status = ANY (%(not_final)s::text[]) OR n.notification_status IS NULL)
    LIMIT %(at_most)s
) AS seen
"""

COUNT_WITHOUT_SERVICE = """
SELECT count(*) FROM (
    SELECT FROM notifications AS n
    WHERE n.service_id IS NULL AND n.notification_type = %(notification_type)s
      AND n.created_at < %(created_before)s::timestamp
    LIMIT %(at_most)s
) AS seen
"""

SLICE_BOUND = """
SELECT n.created_at FROM notifications AS n
WHERE {overdue}
ORDER BY n.created_at
OFFSET %(rows)s LIMIT 1
"""

UPDATE_LIVE = """
UPDATE notifications SET notification_status = :status, updated_at = :updated_at WHERE id = :id
"""
UPDATE_HISTORY = """
UPDATE notification_history SET notification_status = :status, updated_at = :updated_at WHERE id = :id
"""


def choose_letters(connection: Connection, scope: Scope, limit: int) -> list[LetterRow]:
    """Lock and return at most `limit` eligible letters, oldest first, skipping rows that another holds."""
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    statement = _composed(connection, CHOOSE_LETTERS, scope)
    rows = connection.exec_driver_sql(statement, {**scope.values(), "limit": limit})
    return [_letter_row(row) for row in rows]


def letters_sharing_references(connection: Connection, rows: Sequence[LetterRow]) -> list[LetterRow]:
    """Letters that have the reference of one of these, and are none of them; of any service and any age."""
    references = {form for row in rows if row.reference for form in _forms(row.reference)}
    found = connection.exec_driver_sql(
        SHARING_REFERENCES, {"references": list(references), "ids": [row.id for row in rows]}
    )
    return [_letter_row(row) for row in found]


def _forms(reference: str) -> tuple[str, str, str]:
    return reference, reference.upper(), reference.lower()


def _letter_row(row: Any) -> LetterRow:
    return LetterRow(row[0], clock.from_column(row[1]), row[2], row[3], row[4], row[5])


def take_messages(connection: Connection, scope: Scope, limit: int) -> Batch:
    """Lock at most `limit` eligible rows, oldest first, straight into the batch's temporary table."""
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    statement = _composed(connection, TAKE_MESSAGES, scope, history_columns(connection))
    connection.exec_driver_sql(statement, {**scope.values(), "limit": limit})
    return _measure(connection)


def take_these(connection: Connection, ids: Sequence[UUID]) -> Batch:
    """Put exactly these rows, which this transaction has locked, into the batch's temporary table."""
    statement = _composed(connection, TAKE_THESE, None, history_columns(connection))
    connection.exec_driver_sql(statement, {"ids": list(ids)})
    batch = _measure(connection)
    if batch.rows != len(ids):
        raise CountsDiffer(f"{len(ids)} locked rows were to be moved, {batch.rows} are there")
    return batch


def copy_batch_into_history(connection: Connection, expected_rows: int) -> None:
    """Write the batch into history. Raises CountsDiffer unless every row of it is there afterwards.

    Fewer rows are written than expected where history's own row is the newer one. Only then are they looked for.
    """
    columns = history_columns(connection)
    if connection.exec_driver_sql(_composed(connection, INTO_HISTORY, None, columns)).rowcount == expected_rows:
        return
    lost = connection.exec_driver_sql(NOT_IN_HISTORY).scalar()
    if lost:
        raise CountsDiffer(f"{expected_rows} rows were selected for the move, {lost} of them are not in history")


def delete_batch(connection: Connection, expected_rows: int) -> int:
    """Delete the batch from notifications. Raises CountsDiffer unless exactly the expected rows went."""
    deleted = connection.exec_driver_sql(DELETE_BATCH).rowcount
    if deleted != expected_rows:
        raise CountsDiffer(f"{expected_rows} rows were selected for the move, {deleted} were deleted")
    return deleted


def history_columns(connection: Connection) -> list[str]:
    """The names of history's columns, as the database has them now: what moves.

    Raises HistoryNotCovered when notifications lacks one of them.
    """
    found = connection.exec_driver_sql(HISTORY_COLUMNS).all()
    lacking = [name for name, is_live in found if not is_live]
    if lacking:
        raise HistoryNotCovered(
            f"notification_history has columns that notifications lacks: {', '.join(lacking)}. "
            "Add them to notifications, or drop them from notification_history."
        )
    return [name for name, _ in found]


def is_any_left(connection: Connection, scope: Scope) -> bool:
    """Whether an eligible row is there, locked by someone or not."""
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    return bool(connection.exec_driver_sql(_composed(connection, ANY_LEFT, scope), scope.values()).scalar())


def count_not_final(connection: Connection, scope: Scope, not_final: Collection[str], at_most: int) -> int:
    """Overdue letters that stay because they are not final; counts no further than `at_most`."""
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    values = {**scope.values(), "not_final": list(not_final), "at_most": at_most}
    return connection.exec_driver_sql(_composed(connection, COUNT_NOT_FINAL, scope), values).scalar() or 0


def count_without_service(
    connection: Connection, notification_type: str, created_before: datetime, at_most: int
) -> int:
    """Overdue rows whose service_id is NULL, which nothing here touches; counts no further than `at_most`."""
    values = {
        "notification_type": notification_type,
        "created_before": clock.to_column(created_before),
        "at_most": at_most,
    }
    return connection.exec_driver_sql(COUNT_WITHOUT_SERVICE, values).scalar() or 0


def slice_bounds(connection: Connection, scope: Scope, rows_per_slice: int, slices: int) -> list[datetime]:
    """The created_at (aware) at which a scope's second, third, … slice begins. Empty: one slice will do.

    Reads the index once over the rows counted, at most `rows_per_slice * (slices - 1)` of them.
    """
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    statement = _composed(connection, SLICE_BOUND, scope)
    bounds: list[datetime] = []
    values = scope.values()
    while len(bounds) < slices - 1:
        bound = connection.exec_driver_sql(statement, {**values, "rows": rows_per_slice}).scalar()
        if bound is None or bound == values["created_from"]:
            break
        bounds.append(clock.from_column(bound))
        values["created_from"] = bound
    return bounds


def update_notification_status(notification_id: UUID, status: str) -> str | None:
    """Write a status that arrived: to the live row, or to history when the row has moved. What receipts must use.

    Returns the table that took it, "notifications" or "notification_history", or None when neither has the id.
    While a step holds the row this waits for the step, and then finds the row where the step left it.
    Commits. Needs an application context. Raises BadArgument for a status that there isn't.
    """
    if status not in STATUSES:
        raise BadArgument(f"{{}} is not a status; it is one of {', '.join(STATUSES)}", status)
    values = {"id": notification_id, "status": status, "updated_at": clock.to_column(clock.now())}
    with db.engine.begin() as connection:
        if connection.execute(text(UPDATE_LIVE), values).rowcount:
            return "notifications"
        if connection.execute(text(UPDATE_HISTORY), values).rowcount:
            return "notification_history"
    return None


def _measure(connection: Connection) -> Batch:
    rows, first, last = connection.exec_driver_sql(MEASURE_BATCH).one()
    return Batch(rows, clock.from_column(first) if first else None, clock.from_column(last) if last else None)


def _composed(connection: Connection, statement: str, scope: Scope | None, columns: Sequence[str] = ()) -> str:
    """The statement with its fragments and, quoted, its column names; values stay bound."""
    fragments = {"oldest_first": sql.SQL(OLDEST_FIRST)}
    if scope is not None:
        of_kind = OVERDUE + "  AND " + _KIND[scope.kind]
        fragments |= {
            "overdue": sql.SQL(OVERDUE),
            "kind": sql.SQL(_KIND[scope.kind]),
            "eligible": sql.SQL(of_kind + FINAL_AND_NOT_DEFERRED if scope.is_letter else of_kind),
        }
    names = [sql.Identifier(name) for name in columns]
    fragments["columns"] = sql.SQL(", ").join(names)
    fragments["assignments"] = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in names)
    return sql.SQL(statement).format(**fragments).as_string(connection.connection.dbapi_connection)
