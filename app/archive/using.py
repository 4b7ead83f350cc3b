"""Archived rows, used: found by an id or a reference, and put back into the table.

A row can be in several files: it changed, or was restored, and left again. The newest file counts.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from app.archive import duck, files, parquet, policy
from app.archive.tools import Tools
from app.archive.windows import Window
from app.dao import archive_rows_dao, archives_dao
from app.dao.archive_rows_dao import DatabaseError
from app.dao.archives_dao import Archive
from app.db import db
from app.storage.client import Deadline

log = structlog.get_logger(__name__)

ROWS_AT_ONCE = 5_000
SECONDS_A_FILE = 120.0


class NotRestored(RuntimeError):
    """The database refused rows. What was restored before stays; nothing is there twice. The text has the SQLSTATE."""


@dataclass(frozen=True)
class Found:
    """Rows that were found, by column, and in how many files and bytes they were looked for."""

    rows: list[dict[str, Any]]
    files: int
    bytes_read: int
    bytes_of_files: int


def find(tools: Tools, column: str, value: str, window: Window | None = None) -> Found:
    """The archived rows whose id, reference or client_reference this is, as they are in the newest file that has them.

    Raises ExtraMissing, Stopped or BucketRefuses.
    """
    chosen = in_window(tools, window)
    hits, read = duck.search(tools, chosen, column, value)
    newest = {row["id"]: row for _, row in hits}
    return Found(list(newest.values()), len(chosen), read, sum(archive.bytes or 0 for archive in chosen))


def in_window(tools: Tools, window: Window | None) -> list[Archive]:
    """The files that can hold rows of a window, or of any, oldest first."""
    of = policy.history(tools.settings)
    first, before = (window.first, window.before) if window else (None, None)
    with db.transaction(read_only=True) as connection:
        return archives_dao.holding(connection, of.table, first=first, before=before)


def restore(
    tools: Tools,
    chosen: Sequence[Archive],
    ids: Collection[UUID] | None = None,
    watch: Callable[[Archive, int], None] = lambda _archive, _rows: None,
) -> int:
    """Put the rows of these files, or those of them with these ids, back into the table, unless their ids are there.

    Returns how many came back. Repeated, it brings back nothing twice. Rows that are old enough to be archived leave
    again with the next night. Raises Differs, Gone, NotRestored, Stopped or BucketRefuses.
    """
    restored = 0
    for archive in sorted(chosen, key=lambda one: one.id, reverse=True):
        rows = files.rows_of(tools, tools.requests(Deadline(SECONDS_A_FILE)), archive)
        if ids is not None:
            rows = parquet.only(rows, "id", [id_.bytes for id_ in ids])
        for batch in rows.to_batches(max_chunksize=ROWS_AT_ONCE):
            restored += _insert(tools, batch)
        watch(archive, len(rows))
    log.info("archive-restored", files=len(chosen), rows=restored)
    return restored


def _insert(tools: Tools, batch: Any) -> int:
    columns = [column.to_pylist() for column in batch.columns]
    with db.transaction(statement_seconds=SECONDS_A_FILE) as connection:
        of = files.table(connection, tools)
        try:
            rows = list(zip(*columns, strict=True))
            return archive_rows_dao.restore(connection, of, batch.schema.names, rows) if rows else 0
        except DatabaseError as error:  # not chained: it quotes the row
            raise NotRestored(f"The database refused rows: SQLSTATE {error.pgcode}. {NotRestored.__doc__}") from None
