"""Time. Aware datetimes in UTC everywhere; local dates only where a night or a folder is meant.

`notifications` and `notification_history` keep `timestamp without time zone` in UTC. `to_column` and
`from_column` are the only two places that cross that border.
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from app.errors import BadArgument

RESOLUTION = timedelta(seconds=1)
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2199, 12, 31)
"""What may be asked for: within these nobody's arithmetic leaves the calendar."""


class NotATime(BadArgument):
    """The value is no date and time: give an aware datetime, a naive one in UTC, or its ISO 8601 string."""


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def as_utc(value: datetime | str) -> datetime:
    """An aware UTC datetime from an aware one, a naive one that is taken as UTC, or an ISO 8601 string.

    Strings are how a cut-off arrives through a task's JSON. Raises NotATime for anything else.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise NotATime("{} is not a date and time in ISO 8601, such as 2026-03-29T00:00:00Z", value) from None
    if not isinstance(value, datetime):
        raise NotATime(f"A {type(value).__name__} is not a date and time: {NotATime.__doc__}")
    as_day(value.date())
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def as_day(value: date | str) -> date:
    """A date, from one or from its ISO 8601 string, between FIRST_DAY and LAST_DAY. Raises NotATime."""
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise NotATime("{} is not a day; it must be a date such as 2026-03-29", value)
    if not FIRST_DAY <= day <= LAST_DAY:
        raise NotATime(f"{{}} is out of bounds; dates are from {FIRST_DAY} to {LAST_DAY}", day.isoformat())
    return day


def to_column(value: datetime) -> datetime:
    """For a `timestamp without time zone` column: the same instant, naive, in UTC."""
    return value.astimezone(UTC).replace(tzinfo=None)


def from_column(value: datetime) -> datetime:
    """From a `timestamp without time zone` column: the same instant, aware, in UTC."""
    return value.replace(tzinfo=UTC)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The calendar date of an aware instant in a time zone."""
    return instant.astimezone(zone).date()


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local date, aware, in UTC.

    Usually midnight. Where a clock change skips midnight (Africa/Cairo in spring) it is the instant of the
    change; where midnight comes twice it is the first of the two.
    """
    midnight = datetime.combine(day, time(), zone)
    latest, earliest = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    if earliest >= latest:  # no gap: fold 0 is the first, or the only, midnight
        return latest
    while latest - earliest > RESOLUTION:  # the change lies between the two readings of a skipped midnight
        middle = earliest + (latest - earliest) / 2
        if local_date(middle, zone) < day:
            earliest = middle
        else:
            latest = middle
    return latest.replace(microsecond=0) if latest.microsecond else latest
