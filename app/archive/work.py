"""From state to state: writing → written → verified → deleting → done. One turn of a worker, and what comes next.

A turn takes the oldest unfinished file that is nobody's, or begins the next one, and goes on with it until its time is
up or the file is finished. Killed at any state, the next turn repeats that state or goes on from it:

    writing     whatever is under the key goes, and the file is written from the table as it is then
    written     the file is read back and compared; where it differs it is written again
    verified    nothing was deleted yet; the bucket must still have the very file
    deleting    pages whose rows are gone are passed over, the others are deleted by their versions
    done        the window is looked at again: what is left, or came late, goes to another file

A file because of which nothing left the table (rows that are locked, refused or changed) is taken away again, and its
window is passed over until the next night.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from app import clock
from app.archive import files, policy
from app.archive.files import CannotBeArchived, ColumnsChanged, Differs
from app.archive.tools import Tools
from app.archive.windows import key_of
from app.dao import archive_rows_dao, archives_dao
from app.dao.archives_dao import VERIFIED, WRITING, WRITTEN, Archive, LeaseLost
from app.db import db
from app.engine import stops
from app.engine.batch import Refused
from app.storage import archived
from app.storage.client import Deadline, Requests
from app.storage.errors import BucketRefuses, Stopped

log = structlog.get_logger(__name__)

PAUSED = "paused"
MOST_FAILURES = 5
"""A file that differs so often is left to a person, and its rows to the table."""
NEXT_NIGHT = timedelta(hours=20)
RETRY = timedelta(minutes=5)


@dataclass(frozen=True)
class Turn:
    """What a turn came to. `more`: the next may begin at once, or at `not_before`. `stopped`: why it ended early."""

    archive: Archive | None = None
    more: bool = False
    not_before: datetime | None = None
    stopped: str | None = None


def take_turn(tools: Tools) -> Turn:
    """Go on with a file for a step's time. Raises DBAPIError, and ClocksApart where nothing may be begun."""
    now = clock.now()
    deadline = Deadline(tools.settings.step_budget_seconds)
    with db.transaction() as connection:
        if stops.is_paused(connection):
            return Turn(stopped=PAUSED)
        bounded = db.bounded_now(connection, now)
        of = policy.history(tools.settings)
        token, until = uuid4(), files.lease(now)
        archive = archives_dao.take_unfinished(connection, of.table, token, now, until)
        if archive is None:
            others = archives_dao.leased_until(connection, of.table, now)
            if others is not None:
                return Turn(more=True, not_before=others)
            rows = files.table(connection, tools)
            oldest = archive_rows_dao.next_created_at(connection, rows, of.closed_before(bounded), now)
            if oldest is None:
                return Turn()
            window = of.window_at(oldest)
            archive = archives_dao.begin(
                connection,
                of.table,
                (window.first, window.before),
                bucket=tools.bucket,
                key=key_of(tools.settings.archive_prefix, of.table, window),
                token=token,
                now=now,
                until=until,
            )
    if archive is None:  # somebody else has just begun the same window
        return Turn(more=True, not_before=now + RETRY)
    try:
        return _go_on(tools, archive, tools.requests(deadline), deadline)
    except LeaseLost:
        log.info("archive-left-to-another", archive=archive.id)
        return Turn(more=True)


def _go_on(tools: Tools, archive: Archive, requests: Requests, deadline: Deadline) -> Turn:
    try:
        while (
            archive.state in archives_dao.UNFINISHED and deadline.remaining() > tools.settings.step_budget_seconds / 2
        ):
            moved = _next(tools, archive, requests, deadline)
            if isinstance(moved, Turn):
                return moved
            archive = moved
    except (Stopped, BucketRefuses, archived.NotDeleted) as error:
        why = getattr(error, "reason", None) or getattr(error, "code", None) or str(error)
        log.error("archive-storage-failed", archive=archive.id, state=archive.state, why=why, bucket=archive.bucket)
        return _put_off(archive, RETRY, why)
    except (ColumnsChanged, Differs, archived.Gone) as error:
        return _written_anew(tools, archive, requests, error)
    except CannotBeArchived as error:
        log.error("archive-impossible", archive=archive.id, window=archive.window_from.isoformat(), why=str(error))
        return _given_up(tools, archive, requests, str(error))
    except Refused as error:
        log.error("archive-refused", archive=archive.id, why=str(error))
        return _put_off(archive, NEXT_NIGHT, str(error))
    if archive.state in archives_dao.UNFINISHED:
        with db.transaction() as connection:
            archives_dao.release(connection, archive, None)
    return Turn(archive, more=True)


def _next(tools: Tools, archive: Archive, requests: Requests, deadline: Deadline) -> Archive | Turn:
    """Do what the file's state says. Returns the file as it is then, or the turn's end."""
    if archive.state == WRITING:
        written = files.write(tools, requests, archive)
        if written is None:
            return _given_up(tools, archive, requests, None)
        log.info("archive-written", **_facts(written))
        return written
    if archive.state == WRITTEN:
        return files.verify(tools, requests, archive)
    if archive.state == VERIFIED:
        return files.begin_deleting(tools, requests, archive)
    return _delete(tools, archive, requests, deadline)


def _delete(tools: Tools, archive: Archive, requests: Requests, deadline: Deadline) -> Archive | Turn:
    with db.transaction(read_only=True) as connection:
        pages = [page for page in archives_dao.pages(connection, archive) if page.removed is None]
    for page in pages:
        if deadline.remaining() <= tools.settings.step_budget_seconds / 2:
            return archive
        deleted = files.delete_page(tools, archive, page)
        if deleted.is_paused:
            _put_off(archive, timedelta(), None)
            return Turn(archive, stopped=PAUSED)
        archive = deleted.archive
    if not archive.removed:
        return _given_up(tools, archive, requests, "nothing of it could be deleted")
    with db.transaction() as connection:
        archive = archives_dao.set_done(connection, archive, clock.now())
    log.info("archive-done", **_facts(archive))
    return archive


def _put_off(archive: Archive, by: timedelta, why: str | None) -> Turn:
    with db.transaction() as connection:
        archives_dao.release(connection, archive, clock.now() + by)
    return Turn(archive, more=False, stopped=why)


def _written_anew(tools: Tools, archive: Archive, requests: Requests, error: Exception) -> Turn:
    """The file is not what it must be. Where rows were deleted because of it, it stays as it is."""
    why = str(error)
    log.error("archive-differs", archive=archive.id, key=archive.key, state=archive.state, why=why)
    with db.transaction() as connection:
        # As it is now: pages of it may have gone since it was read.
        archive = archives_dao.lock(connection, archive)
        if archive.removed:
            return _rest_of_it_stays(connection, archive, error)
        if archive.failures + 1 < MOST_FAILURES:
            return Turn(archives_dao.write_anew(connection, archive, clock.now(), why), more=True)
    return _given_up(tools, archive, requests, why)


def _rest_of_it_stays(connection: Connection, archive: Archive, error: Exception) -> Turn:
    """Rows of the file are gone from the table already, so that it must stay: it is done with those, and the other rows
    go to another file. Whatever is wrong with the file itself is left to a person.
    """
    archive = archives_dao.set_done(connection, archive, clock.now())
    archives_dao.note_verified(connection, archive, None, None if isinstance(error, ColumnsChanged) else str(error))
    return Turn(archive, more=True)


def _given_up(tools: Tools, archive: Archive, requests: Requests, why: str | None) -> Turn:
    """Take the file away again; the window is looked at again in the next night."""
    now = clock.now()
    try:
        archived.delete_all(tools.s3, requests, archive.bucket, archive.key)
    except (Stopped, BucketRefuses, archived.NotDeleted) as error:
        return _put_off(archive, RETRY, str(error))
    with db.transaction() as connection:
        archive = archives_dao.set_void(connection, archive, now, now + NEXT_NIGHT, why)
    log.info("archive-void", **_facts(archive))
    return Turn(archive, more=True)


def _facts(archive: Archive) -> dict[str, object]:
    """What is logged of a file: ids, counts and times."""
    return {
        "archive": archive.id,
        "window": archive.window_from.isoformat(),
        "part": archive.part,
        "rows": archive.rows,
        "removed": archive.removed,
        "bytes": archive.bytes,
    }
