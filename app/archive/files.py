"""One file: written from the table, read back from the bucket and compared, and its rows deleted.

Each function does what the file's state says is next, and moves the state on in a transaction that checks the lease.
Nothing here waits for S3 while it holds a lock.
"""

import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, BinaryIO, cast

from sqlalchemy import Connection

from app import clock
from app.archive import checksums, parquet
from app.archive.tools import Tools
from app.dao import archive_rows_dao, archives_dao
from app.dao.archive_rows_dao import Place, Table
from app.dao.archives_dao import Archive, Page
from app.dao.turns_dao import ARCHIVE
from app.db import db
from app.engine import stops
from app.engine.batch import prepare
from app.storage import archived
from app.storage.archived import Stored
from app.storage.client import Requests
from app.storage.upload import Upload

CONTENT_TYPE = "application/vnd.apache.parquet"
LEASE = timedelta(minutes=5)
"""Longer than any of the transactions and requests between two of its renewals."""
SPOOLED_BYTES = 4 * 1024 * 1024


class Differs(RuntimeError):
    """What is in the bucket is not what was read from the table. The text says in what, and quotes no value."""


class CannotBeArchived(RuntimeError):
    """A value has no form in the file, such as an infinite timestamp. Its window stays in the table."""


class ColumnsChanged(RuntimeError):
    """History has other columns than when the file was written, so that the file is not all of its rows."""


class _Hashing:
    """Writes to an upload, and remembers what a reader must find."""

    closed = False

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self.hash = sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.hash.update(piece)
        self.bytes += len(piece)
        return self._upload.write(piece)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Put:
    """A file in the bucket, as it was put there."""

    stored: Stored
    etag: str
    bytes: int
    sha256: str


def lease(now: datetime) -> datetime:
    """Until when a lease that is taken or renewed now lasts."""
    return now + LEASE


def stored(archive: Archive) -> Stored:
    """Where the file is."""
    return Stored(archive.bucket, archive.key, archive.version_id)


def table(connection: Connection, tools: Tools) -> Table:
    """History's columns as they are now, without those that are left out."""
    return archive_rows_dao.table(connection, tools.settings.archive_columns_left_out)


def write(tools: Tools, requests: Requests, archive: Archive) -> Archive | None:
    """Read the next rows of the window, page by page, and put them into the bucket. None: there are none.

    Whatever an earlier attempt left under the key goes first. Raises CannotBeArchived, LeaseLost, Stopped,
    BucketRefuses, NotDeleted.
    """
    archived.delete_all(tools.s3, requests, archive.bucket, archive.key)
    with db.transaction() as connection:
        archives_dao.lock(connection, archive)
        archives_dao.forget_pages(connection, archive)
        of = table(connection, tools)
    schema = parquet.schema_of(of.columns, archive.table_name)
    pages = _read(tools, of, archive, schema)
    if not pages:
        return None
    rows, put = put_file(tools, requests, archive.key, pages, schema)
    times = rows["created_at"].combine_chunks()
    first, last = parquet.bounds(times)
    with db.transaction() as connection:
        return archives_dao.set_written(
            connection,
            archive,
            version_id=put.stored.version_id,
            etag=put.etag,
            bytes_=put.bytes,
            sha256=put.sha256,
            schema=parquet.fingerprint(of.columns),
            rows=len(rows),
            services=parquet.uuids(rows, "service_id"),
            first=clock.from_column(first),
            last=clock.from_column(last),
        )


def _read(tools: Tools, of: Table, archive: Archive, schema: Any) -> list[Any]:
    """The rows of one file, in pages, each from a short transaction of its own snapshot."""
    settings = tools.settings
    pages: list[Any] = []
    after: Place | None = None
    left = settings.archive_rows_per_file
    while left:
        limit = min(left, settings.archive_rows_per_page)
        with db.transaction(isolation_level="REPEATABLE READ") as connection:
            archives_dao.lock(connection, archive)
            found = archive_rows_dao.read_page(connection, of, archive, len(pages), after, limit)
        if found is None:
            break
        count, after, sent = found
        pages.append(_parsed(sent, schema, count))
        left -= count
    return pages


def _parsed(sent: bytes, schema: Any, count: int) -> Any:
    invalid = parquet.pyarrow().ArrowInvalid
    try:
        rows = parquet.from_csv(sent, schema)
    except invalid:  # its text quotes the value
        raise CannotBeArchived(CannotBeArchived.__doc__) from None
    if len(rows) != count:
        raise Differs(f"{count} rows were read, {len(rows)} arrived")
    return rows


def put_file(tools: Tools, requests: Requests, key: str, pages: list[Any], schema: Any) -> tuple[Any, Put]:
    """Write rows as a file into the bucket. Returns them in the file's order, and the file."""
    bucket = tools.bucket
    with Upload(tools.s3, requests, bucket, key, CONTENT_TYPE, tools.how) as upload:
        sink = _Hashing(upload)
        rows = parquet.write(pages, schema, sink)
        upload.finish()
    where = archived.newest(tools.s3, requests, bucket, key)
    size, etag = archived.head(tools.s3, requests, where)
    if size != sink.bytes:
        raise Differs(f"{sink.bytes} bytes were written, {size} are there")
    return rows, Put(where, etag, sink.bytes, sink.hash.hexdigest())


def fetch(tools: Tools, requests: Requests, archive: Archive, file: BinaryIO) -> None:
    """Read the file from the bucket into another one. Raises Differs where it is not the one that was written, Gone,
    Stopped or BucketRefuses.
    """
    digest, count = sha256(), 0
    for piece in archived.pieces(tools.s3, requests, stored(archive)):
        digest.update(piece)
        count += len(piece)
        file.write(piece)
    if count != archive.bytes:
        raise Differs(f"{archive.bytes} bytes were written, {count} are there")
    if digest.hexdigest() != archive.sha256:
        raise Differs("the SHA-256 is not that of what was written")
    file.seek(0)


def rows_of(tools: Tools, requests: Requests, archive: Archive) -> Any:
    """The rows of a file, compared with the manifest. Raises what `fetch` raises, and Differs."""
    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as file:
        fetch(tools, requests, archive, cast(BinaryIO, file))
        try:
            rows = parquet.read(cast(BinaryIO, file))
        except (OSError, parquet.pyarrow().ArrowInvalid):
            raise Differs("it can't be read as Parquet") from None
    if len(rows) != archive.rows:
        raise Differs(f"{archive.rows} rows were written, {len(rows)} are there")
    return rows


def verify(tools: Tools, requests: Requests, archive: Archive) -> Archive:
    """Read the file back and compare it with what PostgreSQL said of the rows: their number, their keys, and a checksum
    of each column and page. Raises Differs, ColumnsChanged, Gone, LeaseLost, Stopped or BucketRefuses.
    """
    with db.transaction(read_only=True) as connection:
        pages = archives_dao.pages(connection, archive)
        of = table(connection, tools)
    _require_columns(of, archive)
    compare(rows_of(tools, requests, archive), of, pages)
    with db.transaction() as connection:
        return archives_dao.set_verified(connection, archive, clock.now())


def compare(rows: Any, of: Table, pages: list[Page]) -> None:
    """Raises Differs."""
    sizes = [page.rows for page in pages]
    if sum(sizes) != len(rows):
        raise Differs(f"{sum(sizes)} rows were read from the table, {len(rows)} are in the file")
    if tuple(rows.schema.names) != of.names:
        raise Differs("the file has other columns than the table")
    for page, found in zip(pages, checksums.of_pages(rows, of.columns, sizes), strict=True):
        wrong = [name for name, one, other in zip(of.names, page.checksums, found, strict=True) if one != other]
        if wrong:
            raise Differs(f"the file has other values than the table, of page {page.page} in: {', '.join(wrong)}")


def _require_columns(of: Table, archive: Archive) -> None:
    if parquet.fingerprint(of.columns) != archive.schema:
        raise ColumnsChanged(ColumnsChanged.__doc__)


def begin_deleting(tools: Tools, requests: Requests, archive: Archive) -> Archive:
    """See that the file that was verified is still the one in the bucket. Raises Differs, Gone, LeaseLost and S3's."""
    if archived.head(tools.s3, requests, stored(archive)) != (archive.bytes, archive.etag):
        raise Differs("another object is under the key than the one that was verified")
    with db.transaction() as connection:
        return archives_dao.set_deleting(connection, archive)


@dataclass(frozen=True)
class Deleted:
    """A page was done: its rows that were as they were archived are deleted, but for those that must stay."""

    archive: Archive
    is_paused: bool = False


def delete_page(tools: Tools, archive: Archive, page: Page) -> Deleted:
    """Delete the rows of a page that are still the very versions that are in the file, in one transaction.

    Raises ColumnsChanged, LeaseLost, and `app.engine.batch.Refused` where the database refuses them all.
    """
    settings = tools.settings
    with db.transaction(
        statement_seconds=settings.step_budget_seconds / 2,
        lock_seconds=settings.lock_timeout_seconds,
        idle_seconds=settings.lease_seconds,
    ) as connection:
        standing = stops.standing(connection, stops.turn(ARCHIVE))
        if standing.is_paused:
            return Deleted(archive, is_paused=True)
        archives_dao.lock(connection, archive)
        chosen = archive_rows_dao.choose(connection, table(connection, tools), archive, page.page)
        # The rows' locks keep the table's columns as they are now. A column that was added since changes no version.
        _require_columns(table(connection, tools), archive)
        removed = prepare(connection, chosen).removed if chosen.rows else 0
        until = lease(clock.now())
        return Deleted(archives_dao.add_removed(connection, archive, page.page, removed, until))
