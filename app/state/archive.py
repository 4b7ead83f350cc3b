"""How the archive of history stands: what it holds, what should be in it, and whether its files were read again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from app.config import Settings
from app.dao import archive_rows_dao, archive_state_dao, platform_dao
from app.dao.archive_state_dao import Manifest
from app.dao.catalogue import HISTORY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Archived:
    """The archive at one moment. `due_since` is when the oldest row that should be archived was old enough (aware).

    `ratio` is a row's bytes in the archive, of those in the table with its indexes; None: not known.
    """

    manifest: Manifest
    due_since: datetime | None
    ratio: float | None


def closed_before(now: datetime, after_days: int, length: timedelta) -> datetime:
    """The end of the last window (aware, in UTC) all of whose rows are old enough. Pure."""
    return EPOCH + (now - timedelta(days=after_days) - EPOCH) // length * length


def read(connection: Connection, settings: Settings, now: datetime) -> Archived:
    """Ask the manifest, and the table for its oldest row that is due."""
    manifest = archive_state_dao.manifest(connection, HISTORY, now)
    days, length = settings.archive_after_days, settings.archive_window_length
    rows = archive_rows_dao.table(connection, settings.archive_columns_left_out)
    oldest = archive_rows_dao.next_created_at(connection, rows, closed_before(now, days, length), now)
    due_since = None
    if oldest is not None:
        due_since = EPOCH + ((oldest - EPOCH) // length + 1) * length + timedelta(days=days)
    return Archived(manifest, due_since, _ratio(connection, manifest))


def _ratio(connection: Connection, manifest: Manifest) -> float | None:
    table = platform_dao.known(connection).catalogue.tables[HISTORY]
    if not manifest.rows or not table.rows or not table.bytes:
        return None
    return manifest.bytes / manifest.rows / (table.bytes / table.rows)
