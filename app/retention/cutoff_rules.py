"""Cut-off rules: where a night cuts a retention of so many days off. Pure: a date, days and a zone make an instant.

`app.retention.cutoffs` follows the one that CUTOFF_RULE names; `flask retention adopt` compares two of them.

Platforms of the family differ by up to a day here, so that another rule than a platform's own keeps personal data
longer, or deletes it earlier, than its services were told. Rows with `created_at <` the cut-off are past it, whatever
the rule. `days` is 1 or more, and lies within the calendar: `app.retention.cutoffs.cutoff` sees to both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from app import clock

CutoffRule = Callable[[date, int, ZoneInfo], datetime]
"""The night's date, the days of retention (1 or more) and the platform's zone make a cut-off, aware, in UTC."""

ONE_DAY = timedelta(days=1)


def local_midnight(night: date, days: int, zone: ZoneInfo) -> datetime:
    """The first instant of the local date `days` before the night's. Calendar days, whatever the clocks do."""
    return clock.first_instant(night - days * ONE_DAY, zone)


def utc_midnight(night: date, days: int, zone: ZoneInfo) -> datetime:  # noqa: ARG001 - all rules take the same
    """00:00 UTC of the date `days` before the night's."""
    return datetime.combine(night - days * ONE_DAY, time(), UTC)


def utc_end_of_day(night: date, days: int, zone: ZoneInfo) -> datetime:  # noqa: ARG001
    """23:59:59.999999 UTC of the date `days` before the night's: all but a day later than `utc_midnight`.

    What was made in the day's very last microsecond stays for another night.
    """
    return datetime.combine(night - days * ONE_DAY, time.max, UTC)


def local_midnight_then_days(night: date, days: int, zone: ZoneInfo) -> datetime:
    """The first instant of the night's own date, and from there `days` times 24 hours back.

    An hour from `local_midnight` whenever the clocks change in between.
    """
    return clock.first_instant(night, zone) - days * ONE_DAY


RULES: Mapping[str, CutoffRule] = MappingProxyType(
    {
        "local-midnight": local_midnight,
        "utc-midnight": utc_midnight,
        "utc-end-of-day": utc_end_of_day,
        "local-midnight-then-days": local_midnight_then_days,
    }
)
"""By the name that CUTOFF_RULE takes."""

OF_UTC_DATES = ("utc-midnight", "utc-end-of-day")
"""They count dates of UTC, whatever zone the nights follow."""


@dataclass(frozen=True)
class Difference:
    """How one rule differs from another on one night. Positive: data is kept that much longer than before."""

    night: date
    days: int
    before: datetime
    after: datetime

    @property
    def kept_longer(self) -> timedelta:
        """By how much longer the second rule keeps a row than the first."""
        return self.before - self.after


def differences(
    before: tuple[str, ZoneInfo], after: tuple[str, ZoneInfo], days: int, first: date, nights: int
) -> list[Difference]:
    """The night on which the second rule keeps data longest, and the one on which it keeps it shortest, of so many.

    A rule is a name and the zone that it works in. Of nights that differ alike, the first; one, if all differ alike;
    empty, if none differs.
    """
    found = []
    for number in range(nights):
        night = first + number * ONE_DAY
        old, new = (RULES[rule](night, days, zone) for rule, zone in (before, after))
        found.append(Difference(night, days, old, new))
    longest, shortest = max(found, key=lambda one: one.kept_longer), min(found, key=lambda one: one.kept_longer)
    extremes = [longest] if longest.kept_longer == shortest.kept_longer else [longest, shortest]
    return [one for one in extremes if one.kept_longer]
