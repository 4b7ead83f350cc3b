"""Services, how long each keeps what it sends, and which of them have something past its cut-off."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.dao import platform_dao

IS_SERVICE = "SELECT EXISTS (SELECT FROM {services} WHERE id = :service_id)"

DAYS = """
    SELECT r.days_of_retention FROM {services} AS s
    LEFT JOIN {retentions} AS r
           ON r.service_id = s.id AND r.notification_type = CAST(:retention_type AS {retention_type})
    WHERE s.id = :service_id
    """

DAYS_IN_USE = """
    SELECT DISTINCT days_of_retention FROM {retentions}
    WHERE notification_type = CAST(:retention_type AS {retention_type})
    """

REFUSED = """
    SELECT service_id, notification_type::text AS notification_type, min(days_of_retention) AS days, count(*) AS own
    FROM {retentions}
    GROUP BY service_id, notification_type
    HAVING count(*) > 1 OR min(days_of_retention) <= 0
    ORDER BY service_id, notification_type
    """

# One probe of the index on (service_id, notification_type, created_at), or of the platform's own that is nearest to it,
# per service: the LIMIT keeps the planner from joining the two tables whole.
WITH_OVERDUE = """
    SELECT s.id, c.created_before, c.days
    FROM {services} AS s
    LEFT JOIN {retentions} AS r
           ON r.service_id = s.id AND r.notification_type = CAST(:retention_type AS {retention_type})
    JOIN unnest(CAST(:days AS integer[]), CAST(:cutoffs AS timestamp[])) AS c (days, created_before)
      ON c.days = coalesce(r.days_of_retention, :default_days)
    CROSS JOIN LATERAL (
        SELECT FROM {notifications} AS n
        WHERE n.service_id = s.id AND n.notification_type = CAST(:notification_type AS {type})
          AND n.created_at < c.created_before
        ORDER BY n.created_at
        LIMIT 1
    ) AS oldest
    ORDER BY s.id
    """


@dataclass(frozen=True)
class RefusedRetention:
    """A service's retention of no days or fewer, or its several ones, of which `days` is the least."""

    service_id: UUID
    notification_type: str
    days: int
    own: int

    @property
    def why(self) -> str:
        """Why nothing of it goes, and what to do."""
        if self.own > 1:
            return f"there are {self.own} retentions of this service and type; delete all but the right one"
        return f"a retention of {self.days} days is refused; it must be 1 or more"


def is_service(connection: Connection, service_id: UUID) -> bool:
    """Whether the service exists."""
    statement = platform_dao.known(connection).clause(IS_SERVICE)
    return bool(connection.execute(statement, {"service_id": service_id}).scalar())


def days_of_retention(
    connection: Connection, service_id: UUID, notification_type: str, default_days: int
) -> int | None:
    """The service's own retention of the type, in days, or the default; None if there is no such service.

    Raises MultipleResultsFound where it has two, which no key of the platform's forbids.
    """
    platform = platform_dao.known(connection)
    values = {"service_id": service_id, "retention_type": platform.a_type_of_retention(notification_type)}
    row = connection.execute(platform.clause(DAYS), values).one_or_none()
    if row is None:
        return None
    return default_days if row[0] is None else row[0]


def days_in_use(connection: Connection, notification_type: str) -> set[int]:
    """Every retention that some service has for the type, in days; refused ones among them."""
    platform = platform_dao.known(connection)
    values = {"retention_type": platform.a_type_of_retention(notification_type)}
    return set(connection.execute(platform.clause(DAYS_IN_USE), values).scalars())


def refused(connection: Connection) -> list[RefusedRetention]:
    """Services and types whose retention is zero or negative, or that have several."""
    return [RefusedRetention(*row) for row in connection.execute(platform_dao.known(connection).clause(REFUSED))]


def services_with_overdue(
    connection: Connection, notification_type: str, cutoff_of_days: Mapping[int, datetime], default_days: int
) -> list[tuple[UUID, datetime, int]]:
    """Services that have a row of the type past their cut-off, each with its cut-off (aware) and its days, by id.

    `cutoff_of_days` gives the cut-off for every retention; services with one that it lacks are left out.
    """
    platform = platform_dao.checked_in_index_order(connection)
    values = {
        "notification_type": platform.a_type(notification_type),
        "retention_type": platform.a_type_of_retention(notification_type),
        "days": list(cutoff_of_days),
        "cutoffs": [clock.to_column(cutoff) for cutoff in cutoff_of_days.values()],
        "default_days": default_days,
    }
    found = connection.execute(platform.clause(WITH_OVERDUE), values)
    return [(service_id, clock.from_column(before), days) for service_id, before, days in found]
