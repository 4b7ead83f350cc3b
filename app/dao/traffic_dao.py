"""How live traffic fares on the same database: how far replicas lag, and how many queries wait for locks.

Both views show a role only what it may see: without pg_monitor (or pg_read_all_stats) they look quiet.
"""

from sqlalchemy import Connection, text

from app.db import APPLICATION_NAME

REPLICAS_LAG = text(
    "SELECT coalesce(extract(epoch FROM max(replay_lag)), 0)::float FROM pg_stat_replication WHERE state = 'streaming'"
)

WAITING_FOR_LOCKS = text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name <> :ours
    """
)


def replicas_lag_seconds(connection: Connection) -> float:
    """Seconds by which the slowest streaming replica lags behind in replaying; 0 without replicas."""
    return float(connection.execute(REPLICAS_LAG).scalar_one())


def queries_waiting_for_locks(connection: Connection) -> int:
    """Queries of others on this database that wait for a lock now."""
    return int(connection.execute(WAITING_FOR_LOCKS, {"ours": APPLICATION_NAME}).scalar_one())
