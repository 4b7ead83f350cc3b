"""What people did by hand, and who is logged in to the ops page."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

RECORD = text(
    """
    INSERT INTO retention.ops_actions (acted_at, acted_by, action, service_id, detail, count)
    VALUES (:now, :by, :action, :service_id, :detail, :count)
    """
)
LATEST = text(
    """
    SELECT acted_at, acted_by, action, service_id, detail, count
    FROM retention.ops_actions
    ORDER BY acted_at DESC, id DESC
    LIMIT :at_most
    """
)

OPEN = text(
    "INSERT INTO retention.ops_sessions (token_hash, name, opened_at, seen_at) VALUES (:token_hash, :name, :now, :now)"
)
FIND = text(
    """
    SELECT name FROM retention.ops_sessions
    WHERE token_hash = :token_hash AND opened_at > :opened_after AND seen_at > :seen_after
    """
)
# Once a minute is often enough: a page that is clicked through must not write each time.
SEE = text(
    """
    UPDATE retention.ops_sessions SET seen_at = :now
    WHERE token_hash = :token_hash AND seen_at <= :now - interval '1 minute'
    """
)
CLOSE = text("DELETE FROM retention.ops_sessions WHERE token_hash = :token_hash")
FORGET_SESSIONS = text("DELETE FROM retention.ops_sessions WHERE opened_at <= :opened_after OR seen_at <= :seen_after")


@dataclass(frozen=True)
class Action:
    """What somebody did, to which service if to one, and how many chains, letters or buckets it reached."""

    acted_at: datetime
    acted_by: str
    action: str
    service_id: UUID | None
    detail: str | None
    count: int | None


def record_action(
    connection: Connection,
    action: str,
    by: str,
    now: datetime,
    *,
    service_id: UUID | None = None,
    detail: str | None = None,
    count: int | None = None,
) -> None:
    """Write down what somebody does, in the transaction that does it."""
    values = {"now": now, "by": by, "action": action, "service_id": service_id, "detail": detail, "count": count}
    connection.execute(RECORD, values)


def latest_actions(connection: Connection, at_most: int) -> list[Action]:
    """What was done last, the latest first."""
    return [Action(*row) for row in connection.execute(LATEST, {"at_most": at_most})]


def open_session(connection: Connection, token_hash: bytes, name: str, now: datetime) -> None:
    """Log somebody in."""
    connection.execute(OPEN, {"token_hash": token_hash, "name": name, "now": now})


def find_session(
    connection: Connection, token_hash: bytes, *, opened_after: datetime, seen_after: datetime
) -> str | None:
    """The name of whoever is logged in with this token, None where nobody is, or not since lately enough."""
    values = {"token_hash": token_hash, "opened_after": opened_after, "seen_after": seen_after}
    return connection.execute(FIND, values).scalar()


def see_session(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Somebody has clicked."""
    connection.execute(SEE, {"token_hash": token_hash, "now": now})


def close_session(connection: Connection, token_hash: bytes) -> None:
    """Log out."""
    connection.execute(CLOSE, {"token_hash": token_hash})


def forget_sessions(connection: Connection, *, opened_after: datetime, seen_after: datetime) -> None:
    """Delete what is over."""
    connection.execute(FORGET_SESSIONS, {"opened_after": opened_after, "seen_after": seen_after})
