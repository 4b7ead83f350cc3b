"""When the relays and the workers were last seen at work. One row each, in the database: so on every broker."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

RELAY, WORKER = "relay", "worker"
CHAINS, ACCOUNTS = "chains", "accounts"
"""The dispatcher of chains, and the relay of account deletions."""

SECONDS_BETWEEN_NOTES_OF_WORKERS = 20
WORKER_GONE_AFTER = timedelta(seconds=3 * SECONDS_BETWEEN_NOTES_OF_WORKERS)

NOTE = text(
    """
    INSERT INTO retention.heartbeats (kind, name, seen_at) VALUES (:kind, :name, :now)
    ON CONFLICT (kind, name) DO UPDATE SET seen_at = :now
    """
)
# Of workers whose host names change with every deployment.
FORGET = text("DELETE FROM retention.heartbeats WHERE kind = 'worker' AND seen_at < :before")
RELAYS = text("SELECT name, seen_at FROM retention.heartbeats WHERE kind = 'relay'")
WORKERS = text("SELECT name FROM retention.heartbeats WHERE kind = 'worker' AND seen_at >= :since ORDER BY name")


def note(connection: Connection, kind: str, name: str, now: datetime) -> None:
    """The relay, or the worker of this name, is at work now (aware)."""
    connection.execute(NOTE, {"kind": kind, "name": name, "now": now})


def forget_workers(connection: Connection, before: datetime) -> None:
    """Forget workers that were not seen since (aware)."""
    connection.execute(FORGET, {"before": before})


def relays_seen(connection: Connection) -> dict[str, datetime]:
    """When each relay was last seen (aware)."""
    return {row.name: row.seen_at for row in connection.execute(RELAYS)}


def workers_there(connection: Connection, now: datetime) -> list[str]:
    """The names of the workers that were seen within WORKER_GONE_AFTER of now (aware)."""
    return list(connection.execute(WORKERS, {"since": now - WORKER_GONE_AFTER}).scalars())
