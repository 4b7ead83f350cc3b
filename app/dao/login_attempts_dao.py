"""Attempts to log in, counted in one row for all processes together. All times are aware.

A host whose clock is ahead makes nobody's attempts forgotten early: the earlier of its time and the database's counts.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

COUNT = text(
    """
    INSERT INTO retention.login_attempts AS kept (key, attempts, ends_at)
    VALUES (:key, 1, least(:now, now()) + :kept_for)
    ON CONFLICT (key) DO UPDATE
    SET attempts = CASE WHEN kept.ends_at <= least(:now, now()) THEN 1 ELSE least(kept.attempts, 1000000) + 1 END,
        ends_at = CASE WHEN kept.ends_at <= least(:now, now()) THEN excluded.ends_at ELSE kept.ends_at END
    RETURNING attempts, ends_at - least(:now, now())
    """
)
TAKE_BACK = text("UPDATE retention.login_attempts SET attempts = greatest(attempts - 1, 0) WHERE key = :key")
FORGET = text("DELETE FROM retention.login_attempts WHERE key = :key")
PURGE = text(
    """
    DELETE FROM retention.login_attempts
    WHERE key = ANY (ARRAY(
        SELECT key FROM retention.login_attempts
        WHERE ends_at <= least(:now, now()) ORDER BY ends_at LIMIT :at_most FOR UPDATE SKIP LOCKED
    ))
    """
)


def count(connection: Connection, key: bytes, now: datetime, kept_for: timedelta) -> tuple[int, timedelta]:
    """Count an attempt. Returns how many there were since the first, this one included, and for how long they count.

    They are forgotten together, so long after the first.
    """
    row = connection.execute(COUNT, {"key": key, "now": now, "kept_for": kept_for}).one()
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
