"""Holds: nothing of a service is deleted while it has one. The scope `pipeline` pauses everything.

A step takes the service's advisory lock, shared, for its transaction; placing a hold takes it exclusively. So a
hold that was confirmed is never overtaken by a step that began before it. An advisory lock and not a lock on a
row, because a service without a hold has no row, and because its queue is fair (docs/adr/0007).
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

PIPELINE = "pipeline"
ANYONE = "anyone"
"""A lock of its own, beside the services', for work on files of which nobody knows the service."""

SHARE_LOCK = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('retention.hold.' || :scope, 0))")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('retention.hold.' || :scope, 0))")

STANDING = text("SELECT scope FROM retention.holds WHERE scope IN (:pipeline, :service)")

STANDING_FOR_ANYONE = text(
    """
    SELECT CASE WHEN bool_or(scope = :pipeline) THEN 'paused' ELSE 'on-hold' END FROM retention.holds
    HAVING count(*) > 0
    """
)

PLACE = text(
    """
    INSERT INTO retention.holds (scope, reason, placed_by, placed_at)
    VALUES (:scope, :reason, :placed_by, :now)
    ON CONFLICT (scope) DO NOTHING
    """
)
LIFT = text("DELETE FROM retention.holds WHERE scope = :scope")
ALL = text("SELECT scope, reason, placed_by, placed_at FROM retention.holds ORDER BY placed_at")


def standing(connection: Connection, service_id: UUID) -> str | None:
    """Why the service's steps must rest: "paused", "on-hold", or None. Holds off new holds until the commit."""
    connection.execute(SHARE_LOCK, {"scope": str(service_id)})
    scopes = set(connection.execute(STANDING, {"pipeline": PIPELINE, "service": str(service_id)}).scalars())
    if PIPELINE in scopes:
        return "paused"
    return "on-hold" if scopes else None


def standing_for_anyone(connection: Connection) -> str | None:
    """Why what may be any service's must rest: "paused", "on-hold", or None. Holds off new holds until the commit."""
    connection.execute(SHARE_LOCK, {"scope": ANYONE})
    return connection.execute(STANDING_FOR_ANYONE, {"pipeline": PIPELINE}).scalar()


def place(connection: Connection, scope: str, reason: str, placed_by: str, now: datetime) -> bool:
    """Place a hold on a service (its id) or pause the pipeline. Waits for the service's running step to end.

    Returns False when there is one already.
    """
    connection.execute(LOCK, {"scope": scope})
    if scope != PIPELINE:
        connection.execute(LOCK, {"scope": ANYONE})
    values = {"scope": scope, "reason": reason, "placed_by": placed_by, "now": now}
    return bool(connection.execute(PLACE, values).rowcount)


def lift(connection: Connection, scope: str) -> bool:
    """Lift a hold. Returns False when there is none."""
    return bool(connection.execute(LIFT, {"scope": scope}).rowcount)


def all_holds(connection: Connection) -> list[tuple[str, str, str, datetime]]:
    """Scope, reason, who placed it and when, oldest first."""
    return [tuple(row) for row in connection.execute(ALL)]
