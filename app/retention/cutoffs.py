"""Cut-offs. Rows with `created_at < cut-off` are past it; what is at the cut-off or after is never touched."""

from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import services_dao
from app.errors import BadArgument

BEFORE_ANY_ROW = date(1970, 1, 1)


class RetentionRefused(ValueError):
    """The service's retention is zero or negative. Nothing of it is deleted until that is mended."""


class UnknownService(BadArgument):
    """There is no service with this id."""


def require_service(connection: Connection, service_id: UUID) -> None:
    """Raise UnknownService unless the service exists."""
    if not services_dao.is_service(connection, service_id):
        raise UnknownService("there is no service {}", str(service_id))


def cutoff(night: date, days: int, zone: ZoneInfo) -> datetime:
    """The cut-off of a night: the first instant of the local date `days` before it, aware, in UTC.

    Calendar days, so that it is right on the nights on which the clocks change. A retention that is longer than
    the calendar (999,999 days, for "always") reaches back to where no row is. Raises RetentionRefused.
    """
    if days <= 0:
        raise RetentionRefused(f"a retention of {days} days is refused; it must be 1 or more")
    return clock.first_instant(night - timedelta(days=min(days, (night - BEFORE_ANY_ROW).days)), zone)


def effective_cutoff(
    connection: Connection,
    settings: Settings,
    *,
    service_id: UUID,
    notification_type: str,
    argument: datetime,
    now: datetime,
) -> datetime:
    """The earlier of a task's argument and what the service's retention says now.

    So a task that runs a day late keeps its night's cut-off, and a retention that was lengthened in the meantime
    is honoured. Raises UnknownService and RetentionRefused.
    """
    days = services_dao.days_of_retention(connection, service_id, notification_type)
    if days is None:
        require_service(connection, service_id)
        days = settings.retention_default_days
    return min(argument, cutoff(clock.local_date(now, settings.zone), days, settings.zone))
