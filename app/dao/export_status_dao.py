"""What users are told of their exports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

MOST_LISTED = 20

OF_USER = text(
    """
    SELECT id, state, requested_at, ready_at, expires_at FROM user_exports
    WHERE user_id = :user_id ORDER BY requested_at DESC, id LIMIT :limit
    """
)
ONE = text(
    "SELECT id, state, requested_at, ready_at, expires_at FROM user_exports WHERE id = :id AND user_id = :user_id"
)


@dataclass(frozen=True)
class Status:
    """How far an export is. It can be fetched from `ready_at` until `expires_at`, by the link in the email."""

    id: UUID
    state: str
    requested_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None


def of_user(connection: Connection, user_id: UUID) -> Sequence[Status]:
    """The user's exports, the newest first; the last twenty."""
    found = connection.execute(OF_USER, {"user_id": user_id, "limit": MOST_LISTED})
    return [Status(**row._mapping) for row in found]


def one(connection: Connection, export_id: UUID, user_id: UUID) -> Status | None:
    """An export, if it is the user's own."""
    row = connection.execute(ONE, {"id": export_id, "user_id": user_id}).one_or_none()
    return None if row is None else Status(**row._mapping)
