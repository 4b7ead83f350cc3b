"""When the relays and the workers were last seen at work. One row each, in the database: so on every broker."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

RELAY, WORKER, PERIODIC = "relay", "worker", "periodic"
"""The last is when a periodic task of this name last began its work, by the database's clock."""
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
LEAVE = text("DELETE FROM retention.heartbeats WHERE kind = 'worker' AND name = :name")
PERIODIC_BEGAN = text(
    """
    SELECT now() AS now, extract(epoch FROM now() - seen_at)::float AS since
    FROM (SELECT 1) AS one LEFT JOIN retention.heartbeats ON kind = 'periodic' AND name = :name
    """
)
RELAYS = text("SELECT name, seen_at FROM retention.heartbeats WHERE kind = 'relay'")
WORKERS = text("SELECT name FROM retention.heartbeats WHERE kind = 'worker' AND seen_at >= :since ORDER BY name")


def note(connection: Connection, kind: str, name: str, now: datetime) -> None:
    """The relay, or the worker of this name, is at work now (aware)."""
    connection.execute(NOTE, {"kind": kind, "name": name, "now": now})


def leave(connection: Connection, name: str) -> None:
    """The worker of this name takes no more work."""
    connection.execute(LEAVE, {"name": name})


def forget_workers(connection: Connection, before: datetime) -> None:
    """Forget workers that were not seen since (aware)."""
    connection.execute(FORGET, {"before": before})


def periodic(connection: Connection, task: str) -> tuple[datetime, float | None]:
    """Now (aware), and the seconds since this periodic task last began; None: never. By the database's clock."""
    row = connection.execute(PERIODIC_BEGAN, {"name": task}).one()
    return row.now, row.since


def relays_seen(connection: Connection) -> dict[str, datetime]:
    """When each relay was last seen (aware)."""
    return {row.name: row.seen_at for row in connection.execute(RELAYS)}


def workers_there(connection: Connection, now: datetime) -> list[str]:
    """The names of the workers that were seen within WORKER_GONE_AFTER of now (aware)."""
    return list(connection.execute(WORKERS, {"since": now - WORKER_GONE_AFTER}).scalars())
