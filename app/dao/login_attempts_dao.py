"""Attempts to log in, counted in one row for all processes together. All times are aware."""

from datetime import datetime

from sqlalchemy import Connection, text

COUNT = text(
    """
    INSERT INTO retention.login_attempts AS kept (key, attempts, ends_at) VALUES (:key, 1, :ends_at)
    ON CONFLICT (key) DO UPDATE
    SET attempts = CASE WHEN kept.ends_at <= :now THEN 1 ELSE least(kept.attempts, 1000000) + 1 END,
        ends_at = CASE WHEN kept.ends_at <= :now THEN excluded.ends_at ELSE kept.ends_at END
    RETURNING attempts, ends_at
    """
)
TAKE_BACK = text("UPDATE retention.login_attempts SET attempts = greatest(attempts - 1, 0) WHERE key = :key")
FORGET = text("DELETE FROM retention.login_attempts WHERE key = :key")
PURGE = text(
    """
    DELETE FROM retention.login_attempts
    WHERE key = ANY (ARRAY(
        SELECT key FROM retention.login_attempts
        WHERE ends_at <= :now ORDER BY ends_at LIMIT :at_most FOR UPDATE SKIP LOCKED
    ))
    """
)


def count(connection: Connection, key: bytes, now: datetime, ends_at: datetime) -> tuple[int, datetime]:
    """Count an attempt. Returns how many there were since the first, this one included, and when they are forgotten.

    The first one's `ends_at` holds for those that follow.
    """
    row = connection.execute(COUNT, {"key": key, "now": now, "ends_at": ends_at}).one()
    return row[0], row[1]


def take_back(connection: Connection, key: bytes) -> None:
    """Count one attempt less."""
    connection.execute(TAKE_BACK, {"key": key})


def forget(connection: Connection, key: bytes) -> None:
    """Count none any more."""
    connection.execute(FORGET, {"key": key})


def purge(connection: Connection, now: datetime, at_most: int) -> int:
    """Delete what counts no more, the oldest first. Returns how many."""
    return connection.execute(PURGE, {"now": now, "at_most": at_most}).rowcount
