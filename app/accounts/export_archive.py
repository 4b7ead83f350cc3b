"""The zip of a user's data: a file of JSON for each table, written while it is read, with a part of it in memory."""

import zipfile
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import IO, cast
from uuid import UUID

from sqlalchemy import Connection

from app.accounts.export_tables import EXPORTED, Exported
from app.dao import export_rows_dao
from app.db import db
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, Stopped
from app.storage.upload import Upload

ROWS_BETWEEN_LOOKS = 1000
BOARDS = "leader_boards"


class NobodyThere(Exception):
    """The user's row is gone: an export without it would pass for a whole one."""


def write(upload: Upload, user_id: UUID, now: datetime, deadline: Deadline) -> int:
    """Write the archive. Returns its rows. Raises NobodyThere, and Stopped when the time is up or S3 says so."""
    with zipfile.ZipFile(cast("IO[bytes]", upload), "w", zipfile.ZIP_DEFLATED) as archive:

        def table(name: str, read: Callable[[Connection], Iterable[str]]) -> int:
            entry = zipfile.ZipInfo(f"{name}.json", now.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Each table in a transaction of its own: one snapshot of all would hold back vacuum for the whole export.
            with (
                archive.open(entry, "w", force_zip64=True) as file,
                db.transaction(read_only=True, idle_seconds=max(1, deadline.remaining())) as connection,
            ):
                return _write_rows(file, read(connection), deadline)

        count = 0
        for exported in EXPORTED:
            rows = table(exported.table, partial(_rows_of, exported, user_id))
            if exported.table == "users" and not rows:
                raise NobodyThere(NobodyThere.__doc__)
            count += rows
        count += table(BOARDS, lambda connection: export_rows_dao.board_entries(connection, user_id))
    return count


def _rows_of(exported: Exported, user_id: UUID, connection: Connection) -> Iterable[str]:
    return export_rows_dao.rows(connection, exported.table, exported.column, exported.columns, user_id)


def _write_rows(file: IO[bytes], rows: Iterable[str], deadline: Deadline) -> int:
    """As a JSON array, a row a line."""
    count = 0
    file.write(b"[")
    for row in rows:
        file.write(b",\n" if count else b"\n")
        file.write(row.encode())
        count += 1
        if count % ROWS_BETWEEN_LOOKS == 0 and deadline.remaining() <= 0:
            raise Stopped(OUT_OF_TIME)
    file.write(b"\n]\n")
    return count
