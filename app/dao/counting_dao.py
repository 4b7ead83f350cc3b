"""How many notifications are overdue, why some stay, and where slices of them begin. Cut-offs and bounds are aware."""

from datetime import datetime
from math import ceil

from sqlalchemy import Connection

from app import clock
from app.dao import platform_dao
from app.dao.notifications_dao import Scope, parts

COUNT_NOT_FINAL = """
SELECT count(*) FROM (
    SELECT FROM {notifications} AS n
    WHERE {overdue} AND {kind}
      AND %(statuses_final)s::{status}[] IS NOT NULL
      AND (n.notification_status = ANY (%(statuses_final)s::{status}[])) IS NOT TRUE
    ORDER BY n.created_at
    LIMIT %(at_most)s
) AS seen
"""

COUNT_REFERRED_TO = """
SELECT count(*) FROM (
    SELECT FROM {notifications} AS n
    WHERE {eligible_but_for_references} AND {referred_by_key}
    ORDER BY n.created_at
    LIMIT %(at_most)s
) AS seen
"""

COUNT_WITHOUT_SERVICE = """
SELECT count(*) FROM (
    SELECT FROM {notifications} AS n
    WHERE n.service_id IS NULL AND n.notification_type = %(notification_type)s::{type}
      AND n.created_at < %(created_before)s::timestamp
    LIMIT %(at_most)s
) AS seen
"""

COUNT_OVERDUE = """
SELECT count(*) FROM (
    SELECT FROM {notifications} AS n
    WHERE {overdue}
    ORDER BY n.created_at
    LIMIT %(at_most)s
) AS seen
"""

SLICE_BOUND = """
SELECT n.created_at FROM {notifications} AS n
WHERE {overdue}
ORDER BY n.created_at
OFFSET %(rows)s LIMIT 1
"""


def count_not_final(connection: Connection, scope: Scope, at_most: int) -> int:
    """Overdue letters that stay because they are not known to be final; counts no further than `at_most`."""
    platform = platform_dao.known_in_index_order(connection)
    statement = platform.driver(COUNT_NOT_FINAL, **parts(platform, scope))
    return connection.exec_driver_sql(statement, {**scope.values(platform), "at_most": at_most}).scalar() or 0


def count_referred_to(connection: Connection, scope: Scope, at_most: int) -> dict[str, int]:
    """Overdue rows that stay because a row of another table refers to them, by that table; counts each no further than
    `at_most`.
    """
    platform = platform_dao.known(connection)
    found = {}
    for plan in platform.deferring:
        statement = platform.driver_for(plan, COUNT_REFERRED_TO, **parts(platform, scope))
        rows = connection.exec_driver_sql(statement, {**scope.values(platform), "at_most": at_most}).scalar() or 0
        if rows:
            found[plan.key.table] = rows
    return found


def count_without_service(
    connection: Connection, notification_type: str, created_before: datetime, at_most: int | None
) -> int:
    """Overdue rows whose service_id is NULL, which nothing here touches; counts no further than `at_most`, if given."""
    platform = platform_dao.known(connection)
    values = {
        "notification_type": platform.a_type(notification_type),
        "created_before": clock.to_column(created_before),
        "at_most": at_most,
    }
    return connection.exec_driver_sql(platform.driver(COUNT_WITHOUT_SERVICE), values).scalar() or 0


def slice_bounds(connection: Connection, scope: Scope, rows_per_slice: int, slices: int) -> list[datetime]:
    """The created_at (aware) at which a scope's second, third, … slice begins. Empty: one slice will do.

    Slices are of a size, so that workers who share them end together; beyond `rows_per_slice * slices` rows the last
    one has the rest. Reads the index twice over the rows counted, at most `rows_per_slice * slices` of them.
    """
    platform = platform_dao.known_in_index_order(connection)
    values, named = scope.values(platform), parts(platform, scope)
    counted = {**values, "at_most": rows_per_slice * slices}
    rows = connection.exec_driver_sql(platform.driver(COUNT_OVERDUE, **named), counted).scalar() or 0
    wanted = ceil(rows / rows_per_slice)
    statement = platform.driver(SLICE_BOUND, **named)
    bounds: list[datetime] = []
    while len(bounds) < wanted - 1:
        bound = connection.exec_driver_sql(statement, {**values, "rows": ceil(rows / wanted)}).scalar()
        if bound is None or bound == values["created_from"]:
            break
        bounds.append(clock.from_column(bound))
        values["created_from"] = bound
    return bounds
