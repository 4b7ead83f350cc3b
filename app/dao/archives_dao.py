"""The manifest of archived files: one row a file, whose state is the truth.

A file is somebody's to work on while its row has a lease. Every statement that changes a file's row names the lease's
token, so that a worker that has outlived its lease changes nothing, and the state that it follows: no row is deleted
because of a file that is not verified. Times are aware.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

WRITING, WRITTEN, VERIFIED, DELETING = "writing", "written", "verified", "deleting"
DONE, VOID, EXPIRED = "done", "void", "expired"
UNFINISHED = (WRITING, WRITTEN, VERIFIED, DELETING)


class LeaseLost(RuntimeError):
    """Another worker has gone on with the file, or is about to, or it is in another state. Nothing was changed."""


@dataclass(frozen=True)
class Archive:
    """A file's row: see `app.models.archives.Archive`."""

    id: int
    table_name: str
    window_from: datetime
    window_before: datetime
    part: int
    state: str
    bucket: str
    key: str
    key_to_delete: str | None
    version_id: str | None
    etag: str | None
    bytes: int | None
    sha256: str | None
    schema: str | None
    rows: int
    removed: int
    services: list[UUID] | None
    first_created_at: datetime | None
    last_created_at: datetime | None
    failures: int
    problem: str | None
    started_at: datetime
    verified_at: datetime | None
    finished_at: datetime | None
    retry_at: datetime | None
    lease_token: UUID | None
    lease_until: datetime | None

    @property
    def has_rows(self) -> bool:
        """Whether the file is in the bucket and is read by whoever looks for archived rows."""
        return self.state in (DELETING, DONE)


COLUMNS = ", ".join(field.name for field in fields(Archive))

# A lease that has run out is taken over. One worker a file: who comes second finds none.
TAKE_UNFINISHED = text(
    """
    UPDATE retention.archives SET lease_token = :token, lease_until = :until
    WHERE id = (
        SELECT id FROM retention.archives
        WHERE table_name = :table AND state IN ('writing', 'written', 'verified', 'deleting')
          AND (retry_at IS NULL OR retry_at <= :now) AND (lease_until IS NULL OR lease_until <= :now)
        ORDER BY window_from LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
    """
)
LEASED_UNTIL = text(
    """
    SELECT max(lease_until) FROM retention.archives
    WHERE table_name = :table AND state IN ('writing', 'written', 'verified', 'deleting') AND lease_until > :now
    """
)
# The unique index lets one file of a window be unfinished: who comes second begins none.
BEGIN = text(
    """
    INSERT INTO retention.archives
        (table_name, window_from, window_before, part, bucket, key, started_at, lease_token, lease_until)
    SELECT :table, :window_from, :window_before, numbered.part, :bucket,
           replace(:key, '{part}', lpad(numbered.part::text, 4, '0')), :now, :token, :until
    FROM (
        SELECT coalesce(max(part), 0) + 1 AS part FROM retention.archives
        WHERE table_name = :table AND window_from = :window_from
    ) AS numbered
    ON CONFLICT DO NOTHING
    RETURNING *
    """
)
LOCK = text("SELECT * FROM retention.archives WHERE id = :id AND lease_token = :token FOR UPDATE")
SET_WRITTEN = text(
    """
    UPDATE retention.archives
    SET state = 'written', version_id = :version_id, etag = :etag, bytes = :bytes, sha256 = :sha256, schema = :schema,
        rows = :rows, services = :services, first_created_at = :first, last_created_at = :last
    WHERE id = :id AND lease_token = :token AND state = 'writing' RETURNING *
    """
)
SET_VERIFIED = text(
    """
    UPDATE retention.archives SET state = 'verified', verified_at = :now, failures = 0, problem = NULL
    WHERE id = :id AND lease_token = :token AND state = 'written' RETURNING *
    """
)
SET_DELETING = text(
    """
    UPDATE retention.archives SET state = 'deleting'
    WHERE id = :id AND lease_token = :token AND state = 'verified' RETURNING *
    """
)
ADD_REMOVED = text(
    """
    UPDATE retention.archives SET removed = removed + :removed, lease_until = greatest(lease_until, :until)
    WHERE id = :id AND lease_token = :token AND state = 'deleting' RETURNING *
    """
)
SET_DONE = text(
    """
    UPDATE retention.archives SET state = 'done', finished_at = :now, lease_token = NULL, lease_until = NULL
    WHERE id = :id AND lease_token = :token AND state = 'deleting' RETURNING *
    """
)
SET_VOID = text(
    """
    UPDATE retention.archives
    SET state = 'void', finished_at = :now, retry_at = :retry_at, problem = :problem, lease_token = NULL,
        lease_until = NULL, rows = 0, services = NULL
    WHERE id = :id AND lease_token = :token AND removed = 0
      AND state IN ('writing', 'written', 'verified', 'deleting') RETURNING *
    """
)
WRITE_ANEW = text(
    """
    UPDATE retention.archives
    SET state = 'writing', failures = failures + 1, problem = :problem, retry_at = :retry_at, lease_token = NULL,
        lease_until = NULL
    WHERE id = :id AND lease_token = :token AND removed = 0
      AND state IN ('writing', 'written', 'verified', 'deleting') RETURNING *
    """
)
RELEASE = text(
    """
    UPDATE retention.archives SET lease_token = NULL, lease_until = NULL, retry_at = :retry_at
    WHERE id = :id AND lease_token = :token
    """
)
FORGET_PAGES = text("DELETE FROM retention.archive_pages WHERE archive_id = :id")
PAGES = text(
    """
    SELECT page, cardinality(ids) AS rows, checksums, removed FROM retention.archive_pages
    WHERE archive_id = :id ORDER BY page
    """
)
PAGE_REMOVED = text("UPDATE retention.archive_pages SET removed = :removed WHERE archive_id = :id AND page = :page")

# A file of unknown services, or of an unknown day, is looked into.
HOLDING = text(
    """
    SELECT * FROM retention.archives
    WHERE table_name = :table AND state IN ('deleting', 'done')
      AND (CAST(:first AS timestamptz) IS NULL OR last_created_at >= :first)
      AND (CAST(:before AS timestamptz) IS NULL OR first_created_at < :before)
      AND (CAST(:service AS uuid) IS NULL OR services @> ARRAY[CAST(:service AS uuid)])
    ORDER BY window_from, part
    """
)
ALL = text("SELECT * FROM retention.archives WHERE table_name = :table ORDER BY window_from, part")
BY_ID = text("SELECT * FROM retention.archives WHERE id = :id")
# The longest unverified first, so that every file comes to it.
LONGEST_UNVERIFIED = text(
    """
    SELECT * FROM retention.archives WHERE table_name = :table AND state = 'done'
    ORDER BY verified_at NULLS FIRST, id LIMIT :limit
    """
)
COUNT_DONE = text("SELECT count(*) FROM retention.archives WHERE table_name = :table AND state = 'done'")
NOTE_VERIFIED = text(
    """
    UPDATE retention.archives SET verified_at = coalesce(CAST(:verified_at AS timestamptz), verified_at),
        problem = :problem
    WHERE id = :id
    """
)
# Held services keep their files.
TAKE_EXPIRED = text(
    """
    UPDATE retention.archives SET lease_token = :token, lease_until = :until
    WHERE id = (
        SELECT a.id FROM retention.archives AS a
        WHERE a.table_name = :table AND a.state = 'done' AND a.window_before <= :before
          AND (a.lease_until IS NULL OR a.lease_until <= :now)
          AND NOT EXISTS (SELECT FROM retention.holds AS h WHERE h.scope = ANY (CAST(a.services AS text[])))
        ORDER BY a.window_from, a.part LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
    """
)
TAKE_DONE = text(
    """
    UPDATE retention.archives SET lease_token = :token, lease_until = :until
    WHERE id = :id AND state = 'done' AND (lease_until IS NULL OR lease_until <= :now)
    RETURNING *
    """
)
SET_EXPIRED = text(
    """
    UPDATE retention.archives
    SET state = 'expired', finished_at = :now, services = NULL, lease_token = NULL, lease_until = NULL
    WHERE id = :id AND lease_token = :token AND state = 'done' RETURNING *
    """
)
# Before a new file is begun, so that a worker that is killed leaves no file that nobody knows of.
SET_KEY_TO_DELETE = text(
    "UPDATE retention.archives SET key_to_delete = :key WHERE id = :id AND lease_token = :token RETURNING *"
)
TAKE_LEFT_OVER = text(
    """
    UPDATE retention.archives SET lease_token = :token, lease_until = :until
    WHERE id = (
        SELECT id FROM retention.archives
        WHERE table_name = :table AND key_to_delete IS NOT NULL AND (lease_until IS NULL OR lease_until <= :now)
          AND (retry_at IS NULL OR retry_at <= :now)
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING *
    """
)
SET_REWRITTEN = text(
    """
    UPDATE retention.archives
    SET key = :key, key_to_delete = key, version_id = :version_id, etag = :etag, bytes = :bytes, sha256 = :sha256,
        rows = :rows, services = :services, verified_at = :now
    WHERE id = :id AND lease_token = :token AND state = 'done' RETURNING *
    """
)


def _archive(row: RowMapping) -> Archive:
    return Archive(**{field.name: row[field.name] for field in fields(Archive)})


def _one(connection: Connection, statement: object, values: dict[str, object]) -> Archive | None:
    row = connection.execute(statement, values).mappings().one_or_none()  # type: ignore[call-overload]
    return None if row is None else _archive(row)


def _changed(connection: Connection, statement: object, values: dict[str, object]) -> Archive:
    found = _one(connection, statement, values)
    if found is None:
        raise LeaseLost(LeaseLost.__doc__)
    return found


def _leased(archive: Archive) -> dict[str, object]:
    return {"id": archive.id, "token": archive.lease_token}


def take_unfinished(connection: Connection, table: str, token: UUID, now: datetime, until: datetime) -> Archive | None:
    """Lease the oldest window's file that is not finished and nobody's, if there is one."""
    return _one(connection, TAKE_UNFINISHED, {"table": table, "token": token, "now": now, "until": until})


def leased_until(connection: Connection, table: str, now: datetime) -> datetime | None:
    """Until when unfinished files are other workers' at most; None: there are none of those."""
    found: datetime | None = connection.execute(LEASED_UNTIL, {"table": table, "now": now}).scalar()
    return found


def begin(
    connection: Connection,
    table: str,
    window: tuple[datetime, datetime],
    *,
    bucket: str,
    key: str,
    token: UUID,
    now: datetime,
    until: datetime,
) -> Archive | None:
    """Begin the next file of a window, leased; None where another is not finished yet. `{part}` in the key becomes the
    file's number.
    """
    window_from, window_before = window
    values = {"table": table, "window_from": window_from, "window_before": window_before, "bucket": bucket, "key": key}
    return _one(connection, BEGIN, {**values, "token": token, "now": now, "until": until})


def lock(connection: Connection, archive: Archive) -> Archive:
    """Lock the file's row until the commit. Raises LeaseLost."""
    return _changed(connection, LOCK, _leased(archive))


def set_written(
    connection: Connection,
    archive: Archive,
    *,
    version_id: str | None,
    etag: str,
    bytes_: int,
    sha256: str,
    schema: str,
    rows: int,
    services: Collection[UUID],
    first: datetime,
    last: datetime,
) -> Archive:
    """The file is in the bucket. Raises LeaseLost."""
    values = {"version_id": version_id, "etag": etag, "bytes": bytes_, "sha256": sha256, "schema": schema, "rows": rows}
    of_rows = {"services": sorted(services), "first": first, "last": last}
    return _changed(connection, SET_WRITTEN, {**_leased(archive), **values, **of_rows})


def set_verified(connection: Connection, archive: Archive, now: datetime) -> Archive:
    """The file was read back, and is what was read from the table. Raises LeaseLost."""
    return _changed(connection, SET_VERIFIED, {**_leased(archive), "now": now})


def set_deleting(connection: Connection, archive: Archive) -> Archive:
    """From now on rows of the file are deleted. Raises LeaseLost."""
    return _changed(connection, SET_DELETING, _leased(archive))


def add_removed(connection: Connection, archive: Archive, page: int, removed: int, until: datetime) -> Archive:
    """So many rows of the page were deleted; the lease lasts until then. Raises LeaseLost."""
    connection.execute(PAGE_REMOVED, {"id": archive.id, "page": page, "removed": removed})
    return _changed(connection, ADD_REMOVED, {**_leased(archive), "removed": removed, "until": until})


def set_done(connection: Connection, archive: Archive, now: datetime) -> Archive:
    """Every page was deleted. Raises LeaseLost."""
    forget_pages(connection, archive)
    return _changed(connection, SET_DONE, {**_leased(archive), "now": now})


def set_void(
    connection: Connection, archive: Archive, now: datetime, retry_at: datetime | None, problem: str | None
) -> Archive:
    """Nothing was deleted because of the file, which is gone. Raises LeaseLost."""
    forget_pages(connection, archive)
    return _changed(connection, SET_VOID, {**_leased(archive), "now": now, "retry_at": retry_at, "problem": problem})


def write_anew(connection: Connection, archive: Archive, retry_at: datetime, problem: str) -> Archive:
    """The file is not what was read: it is written again, not before `retry_at`. Raises LeaseLost."""
    forget_pages(connection, archive)
    return _changed(connection, WRITE_ANEW, {**_leased(archive), "retry_at": retry_at, "problem": problem})


def release(connection: Connection, archive: Archive, retry_at: datetime | None) -> None:
    """Give the lease back; the file is gone on with not before `retry_at`."""
    connection.execute(RELEASE, {**_leased(archive), "retry_at": retry_at})


def forget_pages(connection: Connection, archive: Archive) -> None:
    """Forget which rows were read for the file."""
    connection.execute(FORGET_PAGES, {"id": archive.id})


@dataclass(frozen=True)
class Page:
    """What was read in one transaction: `checksums` are PostgreSQL's, one a column; `removed` is None before it was
    deleted.
    """

    page: int
    rows: int
    checksums: list[str]
    removed: int | None


def pages(connection: Connection, archive: Archive) -> list[Page]:
    """The file's pages, in order."""
    return [Page(**row) for row in connection.execute(PAGES, {"id": archive.id}).mappings()]


def holding(
    connection: Connection,
    table: str,
    *,
    first: datetime | None = None,
    before: datetime | None = None,
    service: UUID | None = None,
) -> list[Archive]:
    """Files that can have rows created from `first` and before `before`, of that service, oldest window first."""
    values = {"table": table, "first": first, "before": before, "service": service}
    return [_archive(row) for row in connection.execute(HOLDING, values).mappings()]


def all_of(connection: Connection, table: str) -> list[Archive]:
    """The whole manifest of a table, oldest window first."""
    return [_archive(row) for row in connection.execute(ALL, {"table": table}).mappings()]


def by_id(connection: Connection, archive_id: int) -> Archive | None:
    """One file's row."""
    return _one(connection, BY_ID, {"id": archive_id})


def longest_unverified(connection: Connection, table: str, limit: int) -> list[Archive]:
    """Files that were not read again for longest."""
    values = {"table": table, "limit": limit}
    return [_archive(row) for row in connection.execute(LONGEST_UNVERIFIED, values).mappings()]


def count_done(connection: Connection, table: str) -> int:
    """How many files are finished."""
    return int(connection.execute(COUNT_DONE, {"table": table}).scalar_one())


def note_verified(connection: Connection, archive: Archive, verified_at: datetime | None, problem: str | None) -> None:
    """What reading the file again came to: when it was found to be right, or what is wrong with it."""
    connection.execute(NOTE_VERIFIED, {"id": archive.id, "verified_at": verified_at, "problem": problem})


def take_expired(
    connection: Connection, table: str, before: datetime, token: UUID, now: datetime, until: datetime
) -> Archive | None:
    """Lease the oldest finished file whose window ends by `before`, unless a service of it is on hold."""
    values = {"table": table, "before": before, "token": token, "now": now, "until": until}
    return _one(connection, TAKE_EXPIRED, values)


def take_done(connection: Connection, archive: Archive, token: UUID, now: datetime, until: datetime) -> Archive:
    """Lease a finished file. Raises LeaseLost where it is another's."""
    return _changed(connection, TAKE_DONE, {"id": archive.id, "token": token, "now": now, "until": until})


def set_expired(connection: Connection, archive: Archive, now: datetime) -> Archive:
    """The file is deleted at its second age. Raises LeaseLost."""
    return _changed(connection, SET_EXPIRED, {**_leased(archive), "now": now})


def set_key_to_delete(connection: Connection, archive: Archive, key: str | None) -> Archive:
    """Note an object that must go unless it becomes the file; None: there is none. Raises LeaseLost."""
    return _changed(connection, SET_KEY_TO_DELETE, {**_leased(archive), "key": key})


def take_left_over(connection: Connection, table: str, token: UUID, now: datetime, until: datetime) -> Archive | None:
    """Lease a file beside which an object was left over, if there is one."""
    return _one(connection, TAKE_LEFT_OVER, {"table": table, "token": token, "now": now, "until": until})


def set_rewritten(
    connection: Connection,
    archive: Archive,
    *,
    key: str,
    version_id: str | None,
    etag: str,
    bytes_: int,
    sha256: str,
    rows: int,
    services: Sequence[UUID],
    now: datetime,
) -> Archive:
    """Another file, verified, is in the old one's place, which is the key to delete now. Raises LeaseLost."""
    values = {"key": key, "version_id": version_id, "etag": etag, "bytes": bytes_, "sha256": sha256, "rows": rows}
    return _changed(connection, SET_REWRITTEN, {**_leased(archive), **values, "services": list(services), "now": now})
