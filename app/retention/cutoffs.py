"""Cut-offs. Rows with `created_at < cut-off` are past it; what is at the cut-off or after is never touched.

Whoever needs one asks `cutoff`, which follows CUTOFF_RULE (`app.retention.cutoff_rules`).
"""

from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import MultipleResultsFound

from app import clock
from app.config import Settings
from app.dao import services_dao
from app.errors import BadArgument
from app.retention.cutoff_rules import OF_UTC_DATES, ONE_DAY, RULES

BEFORE_ANY_ROW = date(1970, 1, 1)


class RetentionRefused(ValueError):
    """The service's retention is zero or negative, or there are two. Nothing is deleted until that is fixed."""


class UnknownService(BadArgument):
    """There is no service with this id."""


def require_service(connection: Connection, service_id: UUID) -> None:
    """Raise UnknownService unless the service exists."""
    if not services_dao.is_service(connection, service_id):
        raise _unknown(service_id)


def _unknown(service_id: UUID) -> UnknownService:
    return UnknownService("there is no service {}", str(service_id))


def cutoff(night: date, days: int, settings: Settings) -> datetime:
    """Where a night cuts a retention of so many days off, by the rule that is set: aware, in UTC.

    A retention that is longer than the calendar (999,999 days, for "always") reaches back to where no row is. Raises
    RetentionRefused.
    """
    if days <= 0:
        raise RetentionRefused(f"a retention of {days} days is refused; it must be 1 or more")
    return RULES[settings.cutoff_rule](night, within_calendar(night, days), settings.zone)


def within_calendar(night: date, days: int) -> int:
    """The days, or as many as there are before the night."""
    return min(days, (night - BEFORE_ANY_ROW).days)


def date_to_count_from(now: datetime, settings: Settings) -> date:
    """The date from which retentions are counted back at a moment (aware): tonight's.

    Under a rule of UTC dates no later than UTC's own: where the local date is ahead of it, a retention of a day would
    be cut off at a moment to come, and what was sent just now would go.
    """
    tonight = clock.local_date(now, settings.zone)
    return min(tonight, now.astimezone(UTC).date()) if settings.cutoff_rule in OF_UTC_DATES else tonight


def first_night_past(created_at: datetime, days: int, settings: Settings) -> date:
    """The first night whose cut-off lies after a row of that time (aware): its time is up from that date on.

    `days` is 1 or more, and within the calendar.
    """
    night = clock.local_date(created_at, settings.zone) + (days - 2) * ONE_DAY  # no rule is that early
    while cutoff(night, days, settings) <= created_at:
        night += ONE_DAY
    return night


def cutoff_of_days(
    connection: Connection, settings: Settings, notification_type: str, night: date
) -> dict[int, datetime]:
    """The night's cut-off (aware) of every retention that some service has for the type, and of the default.

    Refused ones are left out.
    """
    days = {*services_dao.days_in_use(connection, notification_type), settings.retention_default_days}
    return {n: cutoff(night, n, settings) for n in sorted(days) if n > 0}


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
    try:
        days = services_dao.days_of_retention(
            connection, service_id, notification_type, settings.retention_default_days
        )
    except MultipleResultsFound:
        raise RetentionRefused(
            f"there are two retentions of service {service_id} for {notification_type}; delete all but the right one"
        ) from None
    if days is None:
        raise _unknown(service_id)
    return min(argument, cutoff(date_to_count_from(now, settings), days, settings))
