"""Services, how long each keeps what it sends, and which of them have something past its cut-off."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock

IS_SERVICE = text("SELECT EXISTS (SELECT FROM services WHERE id = :service_id)")

DAYS = text(
    """
    SELECT days_of_retention FROM service_data_retention
    WHERE service_id = :service_id AND notification_type = :notification_type
    """
)

DAYS_IN_USE = text(
    "SELECT DISTINCT days_of_retention FROM service_data_retention WHERE notification_type = :notification_type"
)

NOT_POSITIVE = text(
    """
    SELECT service_id, notification_type::text AS notification_type, days_of_retention AS days
    FROM service_data_retention
    WHERE days_of_retention <= 0
    ORDER BY service_id, notification_type
    """
)

# One probe of the index on (service_id, notification_type, created_at) per service: the LIMIT keeps the planner
# from joining the two tables whole.
WITH_OVERDUE = text(
    """
    SELECT s.id, c.created_before
    FROM services AS s
    LEFT JOIN service_data_retention AS r
           ON r.service_id = s.id AND r.notification_type = :notification_type
    JOIN unnest(CAST(:days AS integer[]), CAST(:cutoffs AS timestamp[])) AS c (days, created_before)
      ON c.days = coalesce(r.days_of_retention, :default_days)
    CROSS JOIN LATERAL (
        SELECT FROM notifications AS n
        WHERE n.service_id = s.id AND n.notification_type = :notification_type
          AND n.created_at < c.created_before
        ORDER BY n.created_at
        LIMIT 1
    ) AS oldest
    ORDER BY s.id
    """
)


@dataclass(frozen=True)
class RefusedRetention:
    """A retention of no days or fewer, which is refused."""

    service_id: UUID
    notification_type: str
    days: int


def is_service(connection: Connection, service_id: UUID) -> bool:
    """Whether the service exists."""
    return bool(connection.execute(IS_SERVICE, {"service_id": service_id}).scalar())


def days_of_retention(connection: Connection, service_id: UUID, notification_type: str) -> int | None:
    """The service's own retention of the type, in days, or None where the default holds."""
    values = {"service_id": service_id, "notification_type": notification_type}
    return connection.execute(DAYS, values).scalar()


def days_in_use(connection: Connection, notification_type: str) -> set[int]:
    """Every retention that some service has for the type, in days; refused ones among them."""
    return set(connection.execute(DAYS_IN_USE, {"notification_type": notification_type}).scalars())


def refused(connection: Connection) -> list[RefusedRetention]:
    """Services and types whose retention is zero or negative."""
    return [RefusedRetention(*row) for row in connection.execute(NOT_POSITIVE)]


def services_with_overdue(
    connection: Connection, notification_type: str, cutoff_of_days: Mapping[int, datetime], default_days: int
) -> list[tuple[UUID, datetime]]:
    """Services that have a row of the type past their cut-off, each with its cut-off (aware), by id.

    `cutoff_of_days` gives the cut-off for every retention; services with one that it lacks are left out.
    """
    values = {
        "notification_type": notification_type,
        "days": list(cutoff_of_days),
        "cutoffs": [clock.to_column(cutoff) for cutoff in cutoff_of_days.values()],
        "default_days": default_days,
    }
    return [(row[0], clock.from_column(row[1])) for row in connection.execute(WITH_OVERDUE, values)]
