"""What users are told of their exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

MOST_LISTED = 20

COLUMNS = "id, state, requested_at, ready_at, expires_at, files, files_left_out"
OF_USER = text(
    f"""
    SELECT {COLUMNS} FROM user_exports
    WHERE user_id = :user_id ORDER BY requested_at DESC, id LIMIT :limit
    """  # noqa: S608 - constants of this module
)
ONE = text(f"SELECT {COLUMNS} FROM user_exports WHERE id = :id AND user_id = :user_id")  # noqa: S608


@dataclass(frozen=True)
class Status:
    """How far an export is. It can be fetched from `ready_at` until `expires_at`.

    `files` and `files_left_out` of the user's own files it holds, and does not; None before, and where users have none.
    """

    id: UUID
    state: str
    requested_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None
    files: int | None
    files_left_out: int | None

    def is_ready(self, now: datetime) -> bool:
        """Whether it can be fetched at `now`."""
        return self.state == "ready" and self.expires_at is not None and self.expires_at > now


def of_user(connection: Connection, user_id: UUID) -> Sequence[Status]:
    """The user's exports, the newest first; the last twenty."""
    found = connection.execute(OF_USER, {"user_id": user_id, "limit": MOST_LISTED})
    return [Status(**row._mapping) for row in found]


def one(connection: Connection, export_id: UUID, user_id: UUID) -> Status | None:
    """An export, if it is the user's own."""
    row = connection.execute(ONE, {"id": export_id, "user_id": user_id}).one_or_none()
    return None if row is None else Status(**row._mapping)
