"""Choosing, moving and deleting notifications. Rows are chosen once; from then on only those rows' ids flow.

Cut-offs and bounds are aware datetimes here and naive UTC in the columns.

The choice must read the index on (service_id, notification_type, created_at) in order and stop at the limit. The
planner left alone walks the index on created_at for the largest services, filtering everyone else's rows, and
sorts where its statistics are stale. So the bounds are hidden from it, as `(SELECT …)`, and the transaction
counts tuples instead of pages and does not sort: the index that reads the fewest rows in order wins, at any
size (docs/adr/0005).

The tables are the platform's: their names, types and columns are in the templates' placeholders (`app.dao.platform`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app import clock
from app.dao import platform_dao, referring_dao
from app.dao.platform import Platform
from app.dao.transactions import whole_number
from app.db import db
from app.errors import BadArgument
from app.models.types import LETTER
from app.refusals import CountsDiffer

BEGINNING_OF_TIME = datetime(1, 1, 1)  # noqa: DTZ001 - for a timestamp without time zone

REAL, TEST = "real", "test"
KIND = {REAL: "n.key_type <> 'test'", TEST: "n.key_type = 'test'"}


@dataclass(frozen=True)
class Scope:
    """Which rows: of one service, type and kind, with `created_from <= created_at < created_before` (aware).

    Letters stay unless their status is in `statuses_final`; where that is None, any status lets them go, NULL included.
    Of those, `statuses_passed_over` stay; when `statuses_only` is given, all others do. Rows that are deferred beyond
    `now` stay.
    """

    service_id: UUID
    notification_type: str
    kind: str
    created_before: datetime
    created_from: datetime | None = None
    now: datetime | None = None
    statuses_final: Collection[str] | None = ()
    statuses_passed_over: Collection[str] = ()
    statuses_only: Collection[str] | None = None

    @property
    def is_letter(self) -> bool:
        return self.notification_type == LETTER

    @property
    def passes_over_buckets(self) -> bool:
        """Whether letters stay because of where their files would be."""
        return bool(self.statuses_passed_over) or self.statuses_only is not None

    @property
    def asked_at(self) -> datetime:
        """When deferred rows and buckets are due (aware)."""
        return self.now or clock.now()

    def values(self, platform: Platform) -> dict[str, object]:
        """The values that the statements of this module bind, words as the platform has them."""
        created_from = clock.to_column(self.created_from) if self.created_from else BEGINNING_OF_TIME
        return {
            "service_id": self.service_id,
            "notification_type": platform.a_type(self.notification_type),
            "created_from": created_from,
            "created_before": clock.to_column(self.created_before),
            "now": self.asked_at,
            "statuses_final": platform.statuses(self.statuses_final),
            "statuses_passed_over": platform.statuses(self.statuses_passed_over),
            "statuses_only": platform.statuses(self.statuses_only),
        }


@dataclass(frozen=True)
class LetterRow:
    """What is needed of a letter to find its files and to move it. Times are aware, in UTC."""

    id: UUID
    created_at: datetime
    reference: str | None
    status: str | None
    key_type: str
    postage: str | None
    updated_at: datetime | None
    sent_at: datetime | None


@dataclass(frozen=True)
class Candidate:
    """A letter that was read without a lock. `version` tells this version of its row from every other."""

    letter: LetterRow
    version: str
    written_by: int
    """The number, at most, of the transaction that wrote this version."""


@dataclass(frozen=True)
class Batch:
    """Rows that were taken: how many, the least and largest created_at among them (aware; None if none), and the
    tables as they were then. The times are not looked at where the caller knows them.
    """

    rows: int
    first: datetime | None
    last: datetime | None
    platform: Platform


OVERDUE = """
      n.service_id = (SELECT %(service_id)s::uuid)
  AND n.notification_type = %(notification_type)s::{type}
  AND n.created_at >= (SELECT %(created_from)s::timestamp)
  AND n.created_at < (SELECT %(created_before)s::timestamp)
"""

FINAL = """
  AND (%(statuses_final)s::{status}[] IS NULL OR n.notification_status = ANY (%(statuses_final)s::{status}[]))
  AND (n.notification_status = ANY (%(statuses_passed_over)s::{status}[])) IS NOT TRUE
  AND (%(statuses_only)s::{status}[] IS NULL OR n.notification_status = ANY (%(statuses_only)s::{status}[]))
"""

# NOT IN, not NOT EXISTS: the planner hashes the deferred ids once and keeps reading the index in order.
NOT_DEFERRED = """
  AND n.id NOT IN (SELECT notification_id FROM retention.deferred_rows
                   WHERE service_id = %(service_id)s AND next_attempt_at > %(now)s)
"""

# Only where other tables' rows must stay: no other platform's statements have it.
NOT_REFERRED_TO = "  AND NOT {referred}\n"

OLDEST_FIRST = """
ORDER BY n.created_at, n.id
LIMIT %(limit)s
"""
UNLESS_LOCKED = """
FOR UPDATE OF n SKIP LOCKED
"""

# A row's address and the transaction that wrote it: no two versions of a row share both while either can be read.
VERSION = "(n.tableoid, n.ctid, n.xmin)::text"

# Without a lock: S3 is asked about these letters before LOCK_LETTERS chooses among them for good.
CHOOSE_LETTERS = """
SELECT n.id, n.created_at, {reference}, n.notification_status, n.key_type, {postage}, n.updated_at,
       n.sent_at, {version}, n.xmin::text::bigint,
       (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
FROM {notifications} AS n
WHERE {eligible}
{oldest_first}
"""

LOCK_LETTERS = """
SELECT n.id, {version}
FROM {notifications} AS n
WHERE n.id = ANY (%(ids)s::uuid[])
ORDER BY n.created_at, n.id
FOR UPDATE OF n SKIP LOCKED
"""

VERSIONS = "SELECT n.id, {version} FROM {notifications} AS n WHERE n.id = ANY (%(ids)s::uuid[])"

TAKE_MESSAGES = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT n.tableoid AS row_table, n.ctid AS row_address, {expressions}
FROM {notifications} AS n
WHERE {eligible}
{oldest_first}
{unless_locked}
"""

# The rows were locked by LOCK_LETTERS in this transaction: they are as they were.
TAKE_THESE = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT n.tableoid AS row_table, n.ctid AS row_address, {expressions}
FROM {notifications} AS n
WHERE n.id = ANY (%(ids)s::uuid[])
"""

IDS = "SELECT id FROM retention_batch ORDER BY created_at, id"
# Not `<> ALL`, which compares each row with each id before PostgreSQL 15.
KEEP_ONLY = "DELETE FROM retention_batch WHERE id NOT IN (SELECT unnest(%(ids)s::uuid[]))"

MEASURE_BATCH = "SELECT count(*), min(created_at), max(created_at) FROM retention_batch"

# Nothing is released: the savepoint ends with the transaction, a round trip less.
INTO_HISTORY = """
SAVEPOINT before_history;
INSERT INTO {history} AS h ({columns})
SELECT {columns} FROM retention_batch
"""
BACK_TO_BEFORE_HISTORY = "ROLLBACK TO SAVEPOINT before_history"

# Where history has the id already, the newer of the two wins with all its columns, the live row on a tie. Counts the
# rows that were not written although history, as it was before, has no newer version: a trigger can do that.
NEWER_INTO_HISTORY = """
WITH written AS (
    INSERT INTO {history} AS h ({columns})
    SELECT {columns} FROM retention_batch
    ON CONFLICT ({history_key}) DO UPDATE SET {assignments}
    WHERE coalesce(excluded.updated_at, excluded.created_at)
       >= coalesce(h.updated_at, h.created_at)
    RETURNING h.id
)
SELECT count(*) FROM retention_batch AS b
WHERE b.id NOT IN (SELECT id FROM written)
  AND NOT EXISTS (
      SELECT FROM {history} AS h
      WHERE h.id = b.id AND coalesce(h.updated_at, h.created_at) > coalesce(b.updated_at, b.created_at)
  )
"""

# By address: no look-up, and safe because the rows are locked, so that nothing moves them.
DELETE_BATCH = """
DELETE FROM {notifications} AS n WHERE {in_batch}
"""

# Keys are in upper case, references need not be. Only ids outside of the batch are of interest.
SHARING_REFERENCES = """
SELECT n.id, n.created_at, {reference}, n.notification_status, n.key_type, {postage}, n.updated_at,
       n.sent_at
FROM {notifications} AS n
WHERE {reference} = ANY (%(references)s::text[]) AND n.notification_type = %(letter)s::{type}
  AND n.id <> ALL (%(ids)s::uuid[])
"""

# Not EXISTS, which would drop the order: another index of the platform's could have all of a type, whatever its age.
ANY_LEFT = "SELECT true FROM {notifications} AS n WHERE {eligible} ORDER BY n.created_at LIMIT 1"

UPDATE_LIVE = """
UPDATE {notifications} SET notification_status = CAST(:status AS {status}), updated_at = :updated_at WHERE id = :id
"""
UPDATE_HISTORY = """
UPDATE {history} SET notification_status = CAST(:status AS {history_status}), updated_at = :updated_at WHERE id = :id
"""


def choose_letters(connection: Connection, scope: Scope, limit: int) -> list[Candidate]:
    """At most `limit` eligible letters, oldest first, as they are now. Locks nothing."""
    platform = platform_dao.checked_in_index_order(connection)
    statement = platform.driver(CHOOSE_LETTERS, **parts(platform, scope))
    rows = connection.exec_driver_sql(statement, {**scope.values(platform), "limit": limit})
    return [Candidate(letter_row(row), row[8], whole_number(row[9], last=row[10])) for row in rows]


def lock_letters(connection: Connection, candidates: Sequence[Candidate]) -> list[LetterRow]:
    """Lock those of the letters that nobody else holds and that are as they were when they were chosen, oldest first.

    What is true of such a row's columns was true when it was chosen, too.
    """
    statement = platform_dao.known(connection).driver(LOCK_LETTERS, version=VERSION)
    chosen = {candidate.letter.id: candidate for candidate in candidates}
    locked = connection.exec_driver_sql(statement, {"ids": list(chosen)})
    return [chosen[id_].letter for id_, version in locked if version == chosen[id_].version]


def unchanged(connection: Connection, candidates: Sequence[Candidate]) -> set[UUID]:
    """The ids of those letters whose rows are still there as they were when they were chosen."""
    statement = platform_dao.known(connection).driver(VERSIONS, version=VERSION)
    versions = {candidate.letter.id: candidate.version for candidate in candidates}
    return {id_ for id_, now in connection.exec_driver_sql(statement, {"ids": list(versions)}) if now == versions[id_]}


def letters_sharing_references(connection: Connection, rows: Sequence[LetterRow]) -> list[LetterRow]:
    """Letters that have the reference of one of these, and are none of them; of any service and any age."""
    references = {form for row in rows if row.reference for form in _forms(row.reference)}
    platform = platform_dao.known(connection)
    values = {"references": list(references), "letter": platform.a_type(LETTER), "ids": [row.id for row in rows]}
    found = connection.exec_driver_sql(platform.driver(SHARING_REFERENCES), values)
    return [letter_row(row) for row in found]


def _forms(reference: str) -> tuple[str, str, str]:
    return reference, reference.upper(), reference.lower()


def letter_row(row: Any) -> LetterRow:
    """Build a LetterRow from a result row that begins with its columns."""
    updated_at, sent_at = (clock.from_column(time) if time else None for time in row[6:8])
    return LetterRow(row[0], clock.from_column(row[1]), row[2], row[3], row[4], row[5], updated_at, sent_at)


def take_messages(connection: Connection, scope: Scope, limit: int) -> Batch:
    """Lock at most `limit` eligible rows, oldest first, straight into the batch's temporary table.

    Raises HistoryNotCovered.
    """
    platform = platform_dao.checked_in_index_order(connection)
    statement = platform.mover(TAKE_MESSAGES, **parts(platform, scope))
    connection.exec_driver_sql(statement, {**scope.values(platform), "limit": limit})
    return measured(connection, platform)


def measured(connection: Connection, platform: Platform) -> Batch:
    """What is in the batch's temporary table, whose rows are locked, without those that other rows refer to."""
    referring_dao.leave_those_referred_to(connection, platform)
    rows, first, last = connection.exec_driver_sql(MEASURE_BATCH).one()
    return Batch(rows, clock.from_column(first) if first else None, clock.from_column(last) if last else None, platform)


def take_these(connection: Connection, ids: Sequence[UUID]) -> Batch:
    """Put these rows, which this transaction has locked, into the batch's temporary table, but for those that must stay
    because other rows refer to them. Raises HistoryNotCovered.
    """
    platform = platform_dao.checked(connection)
    taken = connection.exec_driver_sql(platform.mover(TAKE_THESE), {"ids": list(ids)}).rowcount
    if taken != len(ids):
        raise CountsDiffer(f"{len(ids)} locked rows were to be moved, {taken} are there", "notifications")
    taken -= referring_dao.leave_those_referred_to(connection, platform)
    return Batch(taken, None, None, platform)


@dataclass
class Removal:
    """The rows of a batch, as `app.engine.batch` wants them: real ones move to history, test ones are deleted."""

    connection: Connection
    batch: Batch
    kind: str

    def ids(self) -> list[UUID]:
        """The rows in the batch's temporary table, oldest first."""
        return list(self.connection.exec_driver_sql(IDS).scalars())

    def remove(self, only: Collection[UUID] | None) -> int:
        """Move or delete these rows, all of the batch if None. Returns how many. Raises CountsDiffer, DBAPIError."""
        batch = self.batch
        if only is not None:
            self.connection.exec_driver_sql(KEEP_ONLY, {"ids": list(only)})
            batch = replace(batch, rows=len(only))
        if self.kind != TEST:
            copy_batch_into_history(self.connection, batch)
        return self.delete(batch)

    def delete(self, batch: Batch) -> int:
        """Delete these rows, which history has by now. Returns how many."""
        return delete_batch(self.connection, batch)


def copy_batch_into_history(connection: Connection, batch: Batch) -> None:
    """Write the batch into history. Raises CountsDiffer unless every row of it is there afterwards.

    A plain insert, which is enough where history has none of the ids, as nearly always: ON CONFLICT costs a lock and a
    WAL record for each row. Where history has one, or a trigger kept rows from being written, the insert is undone and
    repeated with ON CONFLICT. Fewer rows are written than taken where history's own row is the newer one.
    """
    platform = batch.platform
    try:
        if connection.exec_driver_sql(platform.mover(INTO_HISTORY)).rowcount == batch.rows:
            return
    except IntegrityError as error:
        if not isinstance(error.orig, errors.UniqueViolation):
            raise
    connection.exec_driver_sql(BACK_TO_BEFORE_HISTORY)
    lost = connection.exec_driver_sql(platform.mover(NEWER_INTO_HISTORY)).scalar_one()
    if lost:
        raise CountsDiffer(
            f"{batch.rows} rows were selected for the move, {lost} of them are not in history", "notification_history"
        )


def delete_batch(connection: Connection, batch: Batch) -> int:
    """Delete the batch from notifications, after what is declared to go with it. Raises CountsDiffer unless exactly its
    rows went.
    """
    referring_dao.delete_referring(connection, batch.platform)
    deleted = connection.exec_driver_sql(batch.platform.driver(DELETE_BATCH)).rowcount
    if deleted != batch.rows:
        raise CountsDiffer(f"{batch.rows} rows were selected for the move, {deleted} were deleted", "notifications")
    return deleted


def is_any_left(connection: Connection, scope: Scope) -> bool:
    """Whether an eligible row is there, locked by someone or not."""
    platform = platform_dao.known_in_index_order(connection)
    statement = platform.driver(ANY_LEFT, **parts(platform, scope))
    return bool(connection.exec_driver_sql(statement, scope.values(platform)).scalar())


def update_notification_status(notification_id: UUID, status: str) -> str | None:
    """Write a status that arrived: to the live row, or to history when the row has moved. What receipts must use.

    Returns the table that took it, "notifications" or "notification_history", or None when neither has the id.
    While a step holds the row this waits for the step, and then finds the row where the step left it.
    Commits. Needs an application context. Raises BadArgument for a status that there isn't.
    """
    values = {"id": notification_id, "status": status, "updated_at": clock.to_column(clock.now())}
    with db.engine.begin() as connection:
        platform = platform_dao.known(connection)
        if status not in platform.known_statuses:
            platform = platform_dao.read_anew(connection)
        if status not in platform.known_statuses:
            raise BadArgument(f"{{}} is not a status; it is one of {', '.join(platform.known_statuses)}", status)
        if connection.execute(platform.clause(UPDATE_LIVE), values).rowcount:
            return "notifications"
        if connection.execute(platform.clause(UPDATE_HISTORY), values).rowcount:
            return "notification_history"
    return None


def parts(platform: Platform, scope: Scope) -> dict[str, str]:
    """What the templates of this module name beside the platform's tables."""
    eligible = OVERDUE + "  AND " + KIND[scope.kind] + (FINAL if scope.is_letter else "") + NOT_DEFERRED
    return {
        "overdue": OVERDUE,
        "kind": KIND[scope.kind],
        "eligible_but_for_references": eligible,
        "eligible": eligible + (NOT_REFERRED_TO if platform.deferring else ""),
        "oldest_first": OLDEST_FIRST,
        "unless_locked": UNLESS_LOCKED,
        "version": VERSION,
    }
