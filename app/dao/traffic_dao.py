"""How live traffic fares on the same database: how far replicas lag, and how many queries wait for locks.

Both views show a role only what it may see: without pg_monitor (or pg_read_all_stats) they look quiet.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.db import APPLICATION_NAME

TRAFFIC = text(
    """
    SELECT (SELECT coalesce(extract(epoch FROM max(replay_lag)), 0)::float FROM pg_stat_replication
            WHERE state = 'streaming'),
           (SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name <> :ours)
    """
)


@dataclass(frozen=True)
class Traffic:
    """How it fares now: the slowest streaming replica is so far behind in replaying (0 without replicas), and so many
    queries of others on this database wait for a lock.
    """

    replicas_lag_seconds: float
    queries_waiting_for_locks: int


def look(connection: Connection) -> Traffic:
    """Look at both, in one statement: each step does."""
    return Traffic(*connection.execute(TRAFFIC, {"ours": APPLICATION_NAME}).one())
