"""Live traffic comes first: between steps a chain waits while replicas lag or queries wait for locks."""

from sqlalchemy import Connection

from app.config import Settings
from app.dao import traffic_dao

REPLICAS_LAG = "replicas-lag"
QUERIES_WAIT = "queries-wait"
REASONS = (REPLICAS_LAG, QUERIES_WAIT)


def reason_to_yield(connection: Connection, settings: Settings) -> str | None:
    """Why the next step must wait, or None."""
    seen = traffic_dao.look(connection)
    if seen.replicas_lag_seconds > settings.yield_replica_lag_seconds:
        return REPLICAS_LAG
    if seen.queries_waiting_for_locks > settings.yield_waiting_queries:
        return QUERIES_WAIT
    return None
