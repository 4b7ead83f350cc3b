"""The zip of a user's data: a file of JSON for each table, the user's own files, and a manifest of both.

It is written while it is read, with a part of it in memory.
"""

import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import IO, cast
from uuid import UUID

from sqlalchemy import Connection

from app.accounts import export_files
from app.accounts.export_files import Files
from app.accounts.export_tables import EXPORTED, Exported
from app.dao import export_rows_dao
from app.db import db
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, Stopped
from app.storage.upload import Upload

ROWS_BETWEEN_LOOKS = 1000
BOARDS = "leader_boards"
MANIFEST = "manifest.json"


class NobodyThere(Exception):
    """The user's row is gone: an export without it would pass for a whole one."""


@dataclass(frozen=True)
class Written:
    """What an archive holds. `files` is None where users have none."""

    rows: int
    files: Files | None


def write(upload: Upload, user_id: UUID, now: datetime, deadline: Deadline) -> Written:
    """Write the archive. Raises NobodyThere, BucketRefuses, and Stopped when the time is up or S3 says so."""
    with zipfile.ZipFile(cast("IO[bytes]", upload), "w", zipfile.ZIP_DEFLATED) as archive:

        def entry(name: str) -> zipfile.ZipInfo:
            made = zipfile.ZipInfo(name, now.timetuple()[:6])
            made.compress_type = zipfile.ZIP_DEFLATED
            return made

        def table(name: str, read: Callable[[Connection], Iterable[str]]) -> int:
            # Each table in a transaction of its own: one snapshot of all would hold back vacuum for the whole export.
            with (
                archive.open(entry(f"{name}.json"), "w", force_zip64=True) as file,
                db.transaction(read_only=True, idle_seconds=max(1, deadline.remaining())) as connection,
            ):
                return _write_rows(file, read(connection), deadline)

        rows: dict[str, int] = {}
        for exported in EXPORTED:
            rows[exported.name] = table(exported.name, partial(_rows_of, exported, user_id))
            if exported.name == "users" and not rows["users"]:
                raise NobodyThere(NobodyThere.__doc__)
        rows[BOARDS] = table(BOARDS, lambda connection: export_rows_dao.board_entries(connection, user_id))
        files = export_files.write(archive, user_id, now, deadline)
        manifest = {
            "user_id": str(user_id),
            "made_at": now.isoformat(),
            "rows": rows,
            "files": None if files is None else files.manifest,
        }
        archive.writestr(entry(MANIFEST), json.dumps(manifest, indent=1))
    return Written(sum(rows.values()), files)


def _rows_of(exported: Exported, user_id: UUID, connection: Connection) -> Iterable[str]:
    return export_rows_dao.rows(
        connection, exported.table, exported.column, exported.columns, user_id, is_address=exported.is_address
    )


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
