"""Audits: their records, and what the tables say of the references that files name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import platform_dao, turns_dao
from app.dao.notifications_dao import BEGINNING_OF_TIME, LetterRow, letter_row
from app.models.types import LETTER

COLUMNS = (
    "id, started_at, advanced_at, finished_at, abandoned, started_by, deletes, only_bucket, since, until, step, phase, "
    "place, position, refused, files_seen, files_without_row, files_of_history, files_within_retention, files_young, "
    "files_misplaced, unrecognised_files, deleted_files, rows_seen, rows_without_file, rows_in_mixed_case, "
    "failures, failure"
)

BEGIN = text(
    f"""
    INSERT INTO retention.audits (started_at, advanced_at, started_by, deletes, only_bucket, since, until)
    VALUES (:now, :now, :started_by, :deletes, :only_bucket, :since, :until)
    RETURNING {COLUMNS}
    """  # noqa: S608 - constants of this module
)
ABANDON = text(
    """
    UPDATE retention.audits SET abandoned = true, position = NULL WHERE finished_at IS NULL AND NOT abandoned
    """
)
UNDER_WAY = text(
    f"""
    SELECT {COLUMNS} FROM retention.audits WHERE finished_at IS NULL AND NOT abandoned ORDER BY started_at DESC LIMIT 1
    """  # noqa: S608
)
LAST_FINISHED = text(
    f"""
    SELECT {COLUMNS} FROM retention.audits WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1
    """  # noqa: S608
)
LAST_STARTED = text("SELECT max(started_at) FROM retention.audits")
LOCK = text(
    """
    SELECT id FROM retention.audits
    WHERE id = :id AND step = :step AND finished_at IS NULL AND NOT abandoned
    FOR NO KEY UPDATE
    """
)
ADVANCE = text(
    f"""
    UPDATE retention.audits
    SET step = step + 1, advanced_at = :now, finished_at = :finished_at, phase = :phase, place = :place,
        position = :position, refused = :refused, failures = 0, failure = NULL,
        files_seen = files_seen + :files_seen,
        files_without_row = files_without_row + :files_without_row,
        files_of_history = files_of_history + :files_of_history,
        files_within_retention = files_within_retention + :files_within_retention,
        files_young = files_young + :files_young,
        files_misplaced = files_misplaced + :files_misplaced,
        unrecognised_files = unrecognised_files + :unrecognised_files,
        deleted_files = deleted_files + :deleted_files,
        rows_seen = rows_seen + :rows_seen,
        rows_without_file = rows_without_file + :rows_without_file,
        rows_in_mixed_case = rows_in_mixed_case + :rows_in_mixed_case
    WHERE id = :id AND step = :step AND finished_at IS NULL AND NOT abandoned
    RETURNING {COLUMNS}
    """  # noqa: S608
)

# The same failure again counts on, another one from 1.
FAIL = text(
    f"""
    UPDATE retention.audits
    SET failures = counted.times, failure = :failure, abandoned = counted.times >= :most,
        position = CASE WHEN counted.times < :most THEN position END
    FROM (SELECT CASE WHEN failure = :failure THEN failures + 1 ELSE 1 END AS times
          FROM retention.audits WHERE id = :id) AS counted
    WHERE id = :id AND step = :step AND finished_at IS NULL AND NOT abandoned
    RETURNING {COLUMNS}
    """  # noqa: S608
)

KINDS_KEPT = text("SELECT kind, count(*) FROM retention.audit_findings WHERE audit_id = :audit GROUP BY kind")
KEEP_FINDING = text(
    """
    INSERT INTO retention.audit_findings
        (audit_id, kind, bucket, folder, key_sha256, last_modified, notification_id, found_at)
    VALUES (:audit, :kind, :bucket, :folder, :key_sha256, :last_modified, :notification_id, :now)
    """
)
FINDINGS = text(
    """
    SELECT kind, bucket, folder, key_sha256, last_modified, notification_id FROM retention.audit_findings
    WHERE audit_id = :audit
    ORDER BY id
    """
)

WRITE_AHEAD = text(
    """
    INSERT INTO retention.audit_deletions (audit_id, bucket, deleted_by, deleted_at, asked)
    VALUES (:audit, :bucket, :deleted_by, :now, :asked)
    RETURNING id
    """
)
RECORD_DELETION = text(
    "UPDATE retention.audit_deletions SET files = :files, refused = :refused, code = :code WHERE id = :id"
)

SEE_LETTERS = text(
    """
    INSERT INTO retention.audited_letters (notification_id) SELECT unnest(CAST(:ids AS uuid[])) ON CONFLICT DO NOTHING
    """
)
FORGET_LETTERS = text("TRUNCATE retention.audited_letters")

# One look into the index a reference, whatever the planner knows: OFFSET 0 keeps it from joining the whole table.
# Any row counts, of whatever type: a file whose reference some live row has is nobody's to remove. Keys are in upper
# case; of references in mixed case, which no index finds, PAGE tells.
LIVE = """
    SELECT n.id, n.created_at, {reference}, n.notification_status, n.key_type, {postage}, n.updated_at,
           n.sent_at, n.notification_type
    FROM unnest(string_to_array(:references, ',')) AS named (reference)
    CROSS JOIN LATERAL (
        SELECT n.id, n.created_at, n.reference, n.notification_status, n.key_type, n.postage, n.updated_at, n.sent_at,
               n.notification_type
        FROM {notifications} AS n WHERE {reference} = named.reference OFFSET 0
    ) AS n
    """
IN_HISTORY = """
    SELECT h.id, h.reference, h.created_at, h.service_id, r.days_of_retention
    FROM unnest(string_to_array(:references, ',')) AS named (reference)
    CROSS JOIN LATERAL (SELECT * FROM {history} AS h WHERE h.reference = named.reference OFFSET 0) AS h
    LEFT JOIN {retentions} AS r
           ON r.service_id = h.service_id AND r.notification_type = CAST(:letter_retention AS {retention_type})
    """

# By the index on (notification_type, notification_status, created_at). Compared and sorted by status although it is
# one: an order that the index on created_at alone, with everyone's rows in it, does not have.
PAGE = """
    SELECT n.id, n.created_at, {reference}, n.notification_status, n.key_type, {postage}, n.updated_at,
           n.sent_at, EXISTS (SELECT FROM retention.audited_letters AS a WHERE a.notification_id = n.id) AS seen,
           {reference} <> upper({reference}) AND {reference} <> lower({reference}) AS mixed
    FROM {notifications} AS n
    WHERE n.notification_type = CAST(:letter AS {type}) AND {of_status}
    ORDER BY n.notification_status, n.created_at, n.id
    LIMIT :limit
"""
OF_A_STATUS = """
          (n.notification_status, n.created_at, n.id)
          > (CAST(:status AS {status}), CAST(:after_time AS timestamp), :after_id)
      AND (n.notification_status, n.created_at) < (CAST(:status AS {status}), CAST(:made_before AS timestamp))
"""
WITHOUT_STATUS = """
          n.notification_status IS NULL
      AND n.created_at >= CAST(:after_time AS timestamp)
      AND (n.created_at, n.id) > (CAST(:after_time AS timestamp), :after_id)
      AND n.created_at < CAST(:made_before AS timestamp)
"""

# Not one that a step holds (it is about to move, its files may be gone), nor one that a killed step had begun with.
STILL_WITHOUT_FILE = """
    SELECT n.id FROM {notifications} AS n
    WHERE n.id = ANY (CAST(:ids AS uuid[])) AND n.notification_status = CAST(:status AS {status})
      AND NOT EXISTS (SELECT FROM retention.intents AS i
                      WHERE i.service_id = n.service_id
                        AND n.id = ANY (i.notification_ids))
    FOR SHARE OF n SKIP LOCKED
    """


@dataclass(frozen=True)
class Counts:
    """What a part of an audit adds to it."""

    files_seen: int = 0
    files_without_row: int = 0
    files_of_history: int = 0
    files_within_retention: int = 0
    files_young: int = 0
    files_misplaced: int = 0
    unrecognised_files: int = 0
    deleted_files: int = 0
    rows_seen: int = 0
    rows_without_file: int = 0
    rows_in_mixed_case: int = 0


@dataclass(frozen=True)
class Audit:
    """An audit as it was read: its scope, how far it has come, and its counts. Times are aware."""

    id: int
    started_at: datetime
    advanced_at: datetime
    finished_at: datetime | None
    abandoned: bool
    started_by: str
    deletes: bool
    only_bucket: str | None
    since: date | None
    until: date | None
    step: int
    phase: str
    place: str | None
    position: str | None
    """The last key, or the last row's time and id; do not log."""
    refused: str | None
    files_seen: int
    files_without_row: int
    files_of_history: int
    files_within_retention: int
    files_young: int
    files_misplaced: int
    unrecognised_files: int
    deleted_files: int
    rows_seen: int
    rows_without_file: int
    rows_in_mixed_case: int
    failures: int
    failure: str | None
    """How often in a row it has failed in this way: an error's name."""

    def as_json(self) -> dict[str, Any]:
        """For programs, without the position."""
        return {name: value for name, value in asdict(self).items() if name not in ("position", "step")}


@dataclass(frozen=True)
class HistoryRow:
    """A letter in history: when it was made (aware), whose it was, and that service's own retention in days."""

    id: UUID
    reference: str
    created_at: datetime
    service_id: UUID | None
    days: int | None


@dataclass(frozen=True)
class AuditedRow:
    """A letter, whether the audit has seen a file of it, and whether its reference is in mixed case."""

    letter: LetterRow
    seen: bool
    mixed: bool


def hold_off_others(connection: Connection) -> None:
    """Until the commit, nobody else begins an audit."""
    turns_dao.take(connection, turns_dao.AUDIT)


def begin(
    connection: Connection,
    *,
    now: datetime,
    started_by: str,
    deletes: bool,
    only_bucket: str | None,
    since: date | None,
    until: date | None,
) -> Audit:
    """A new audit. Those that never ended are abandoned, with how far they had come."""
    connection.execute(ABANDON)
    connection.execute(FORGET_LETTERS)
    values = {"now": now, "started_by": started_by, "deletes": deletes}
    scope = {"only_bucket": only_bucket, "since": since, "until": until}
    return Audit(*connection.execute(BEGIN, {**values, **scope}).one())


def under_way(connection: Connection) -> Audit | None:
    """The audit that has not ended yet, if there is one."""
    row = connection.execute(UNDER_WAY).one_or_none()
    return None if row is None else Audit(*row)


def last_finished(connection: Connection) -> Audit | None:
    """The audit that ended last."""
    row = connection.execute(LAST_FINISHED).one_or_none()
    return None if row is None else Audit(*row)


def last_started_at(connection: Connection) -> datetime | None:
    """When an audit was begun last (aware)."""
    return connection.execute(LAST_STARTED).scalar()


def lock(connection: Connection, audit: Audit) -> bool:
    """Lock the audit's row until the commit; False if someone else has gone on with it."""
    return connection.execute(LOCK, {"id": audit.id, "step": audit.step}).scalar() is not None


def advance(
    connection: Connection,
    audit: Audit,
    counts: Counts,
    *,
    now: datetime,
    phase: str,
    place: str | None,
    position: str | None,
    refused: str | None,
    finished: bool = False,
) -> Audit | None:
    """Add the counts, and say how far it has come. None, with nothing written, if someone else has gone on with it."""
    values = {"id": audit.id, "step": audit.step, "now": now, "finished_at": now if finished else None}
    where = {"phase": phase, "place": place, "position": position, "refused": refused}
    row = connection.execute(ADVANCE, {**asdict(counts), **values, **where}).one_or_none()
    return None if row is None else Audit(*row)


def fail(connection: Connection, audit: Audit, failure: str, most: int) -> Audit | None:
    """Note that it failed; after so many times in the same way it is abandoned. None if someone else has gone on."""
    values = {"id": audit.id, "step": audit.step, "failure": failure, "most": most}
    row = connection.execute(FAIL, values).one_or_none()
    return None if row is None else Audit(*row)


def forget_letters(connection: Connection) -> None:
    """Empty the list of letters that were seen to have a file."""
    connection.execute(FORGET_LETTERS)


def see_letters(connection: Connection, ids: Collection[UUID]) -> None:
    """Note that files of these letters were seen."""
    connection.execute(SEE_LETTERS, {"ids": sorted(ids)})


def examples_kept(connection: Connection, audit_id: int) -> dict[str, int]:
    """How many examples of each kind are kept of an audit."""
    return {row[0]: row[1] for row in connection.execute(KINDS_KEPT, {"audit": audit_id})}


def keep_examples(connection: Connection, audit_id: int, examples: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Keep examples of what was found: kind, bucket, folder, key_sha256, last_modified (aware), notification_id."""
    connection.execute(KEEP_FINDING, [{**example, "audit": audit_id, "now": now} for example in examples])


def findings(connection: Connection, audit_id: int) -> list[dict[str, Any]]:
    """The examples that an audit kept, in the order in which they were found."""
    return [dict(row) for row in connection.execute(FINDINGS, {"audit": audit_id}).mappings()]


def write_deletion_ahead(connection: Connection, audit: Audit, bucket: str, asked: int, now: datetime) -> int:
    """Note that so many files are about to be deleted. Returns the record's id."""
    values = {"audit": audit.id, "bucket": bucket, "deleted_by": audit.started_by, "now": now, "asked": asked}
    return int(connection.execute(WRITE_AHEAD, values).scalar_one())


def record_deletion(connection: Connection, record_id: int, files: int, refused: int, code: str | None) -> None:
    """Note what became of the files: how many went, how many did not, and the first reason."""
    connection.execute(RECORD_DELETION, {"id": record_id, "files": files, "refused": refused, "code": code})


def live_rows(connection: Connection, references: Collection[str]) -> dict[str, list[tuple[LetterRow, bool]]]:
    """By reference in upper case: live rows that have it in upper or lower case, and whether they are letters."""
    found: dict[str, list[tuple[LetterRow, bool]]] = {}
    statement = platform_dao.known_in_index_order(connection).clause(LIVE)
    for row in connection.execute(statement, {"references": _forms(references)}):
        found.setdefault(row[2].upper(), []).append((letter_row(row), row[8] == LETTER))
    return found


def history_rows(connection: Connection, references: Collection[str]) -> dict[str, list[HistoryRow]]:
    """By reference in upper case: history's rows that have it in upper or lower case."""
    found: dict[str, list[HistoryRow]] = {}
    platform = platform_dao.known_in_index_order(connection)
    values = {"references": _forms(references), "letter_retention": platform.a_type_of_retention(LETTER)}
    for row in connection.execute(platform.clause(IN_HISTORY), values):
        of_row = HistoryRow(row[0], row[1], clock.from_column(row[2]), row[3], row[4])
        found.setdefault(row[1].upper(), []).append(of_row)
    return found


def letters_page(
    connection: Connection,
    status: str | None,
    after: tuple[datetime, UUID] | None,
    made_between: tuple[datetime | None, datetime],
    limit: int,
) -> list[AuditedRow]:
    """The next letters of a status, by created_at and id, made between two times (aware)."""
    platform = platform_dao.known_in_index_order(connection)
    made_from, made_before = made_between
    time, id_ = after or (made_from, UUID(int=0))
    values = {
        "letter": platform.a_type(LETTER),
        "after_time": clock.to_column(time) if time else BEGINNING_OF_TIME,
        "after_id": id_,
        "made_before": clock.to_column(made_before),
        "limit": limit,
    }
    if status is None:
        rows = connection.execute(platform.clause(PAGE, of_status=WITHOUT_STATUS), values)
    else:
        statement = platform.clause(PAGE, of_status=OF_A_STATUS)
        rows = connection.execute(statement, {**values, "status": platform.a_status(status)})
    return [AuditedRow(letter_row(row), row[8], bool(row[9])) for row in rows]


def still_without_file(connection: Connection, ids: Sequence[UUID], status: str) -> set[UUID]:
    """Of these letters, those that are as they were and that no step deals with. They stay so until the commit."""
    platform = platform_dao.known(connection)
    values = {"ids": list(ids), "status": platform.a_status(status)}
    return set(connection.execute(platform.clause(STILL_WITHOUT_FILE), values).scalars())


def _forms(references: Iterable[str]) -> str:
    """For string_to_array; a reference that a key can have holds no comma."""
    return ",".join(form for reference in references for form in {reference, reference.lower()})
