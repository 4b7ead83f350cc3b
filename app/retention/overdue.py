"""The number that matters: how far past its retention the oldest notification is, measured from the data.

What the tasks say of themselves does not come into it. Red means: act.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.config import Settings
from app.dao import holds_dao, letter_statuses, overdue_dao, services_dao
from app.db import db
from app.retention.cutoffs import cutoff_of_days, first_night_past, within_calendar
from app.retention.nightly import count_without_service
from app.retention.tools import tools

COUNT_NO_FURTHER = 1_000
SECONDS_TO_MEASURE = 60.0

OVERDUE = "overdue"
NOT_FINAL, UNKNOWN_STATUS = "not final", "in no known status"
ON_HOLD, MISSING_FILES = "on hold", "missing files to be accepted"
NO_SERVICE, REFUSED, REFERRED_TO = "no service", "retention refused", "referred to by other rows"
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


@dataclass(frozen=True)
class Kept:
    """Rows of a service and type that are past their retention and still there, and what kind of keeping that is.

    `past` is how long ago the oldest's time was up, None where that was not looked at. `rows` is at most
    COUNT_NO_FURTHER, with `more` beyond it. `why` is what is known to hold single letters or their buckets back.
    """

    kind: str
    notification_type: str
    service_id: UUID | None
    rows: int
    past: timedelta | None = None
    more: bool = False
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Everything that is kept, at one moment (aware), the longest first. `limits` is when each kind turns red."""

    measured_at: datetime
    kept: list[Kept]
    limits: Mapping[str, timedelta]

    @property
    def overdue(self) -> list[Kept]:
        """What should be gone."""
        return [one for one in self.kept if one.kind == OVERDUE]

    @property
    def waiting(self) -> list[Kept]:
        """What stays for a reason of its own, what is red for it first."""
        return sorted((one for one in self.kept if one.kind != OVERDUE), key=lambda one: not self.is_alarm(one))

    @property
    def oldest(self) -> timedelta:
        """How far past its retention the oldest overdue notification is; zero when nothing is."""
        return max((one.past for one in self.overdue if one.past), default=timedelta())

    @property
    def is_red(self) -> bool:
        """Whether a person must act."""
        return any(self.is_alarm(one) for one in self.kept)

    def is_alarm(self, one: Kept) -> bool:
        """Whether this has been kept for longer than its kind may be."""
        return one.kind in self.limits and (one.past or timedelta.max) > self.limits[one.kind]

    @property
    def sentence(self) -> str:
        """It in one sentence."""
        if not self.overdue:
            return "Nothing is overdue, but something waits for a person." if self.is_red else "Nothing is overdue."
        more = "More than " if any(one.more for one in self.overdue) else ""
        rows, services = sum(one.rows for one in self.overdue), len({one.service_id for one in self.overdue})
        whose = "1 service" if services == 1 else f"{services:,} services"
        what = f"notification of {whose} is past its" if rows == 1 else f"notifications of {whose} are past their"
        return f"{more}{rows:,} {what} retention, the oldest by {spoken(self.oldest)}."


def measure(statement_seconds: float = SECONDS_TO_MEASURE) -> State:
    """Look at the data, in a READ ONLY transaction whose statements may take so long."""
    settings, types = tools().settings, tools().notification_types
    now = clock.now()
    with db.transaction(statement_seconds=statement_seconds, read_only=True) as connection:
        kept = [one for notification_type in types for one in _of_type(connection, settings, notification_type, now)]
        refused = [one for one in services_dao.refused(connection) if one.notification_type in types]
        kept += [Kept(REFUSED, one.notification_type, one.service_id, 0) for one in refused]
    return State(now, sorted(kept, key=lambda one: one.past or timedelta(), reverse=True), _limits(settings))


def _limits(settings: Settings) -> dict[str, timedelta]:
    return {
        OVERDUE: timedelta(hours=settings.overdue_red_hours),
        NOT_FINAL: timedelta(days=settings.not_final_red_days),
        UNKNOWN_STATUS: timedelta(days=settings.not_final_red_days),
        ON_HOLD: timedelta(days=settings.on_hold_red_days),
        MISSING_FILES: timedelta(days=settings.missing_files_red_days),
        REFUSED: timedelta(),
    }


def _of_type(connection: Connection, settings: Settings, notification_type: str, now: datetime) -> Iterator[Kept]:
    tonight = clock.local_date(now, settings.zone)
    cutoffs = cutoff_of_days(connection, settings, notification_type, tonight)
    days_of = {before: within_calendar(tonight, days) for days, before in cutoffs.items()}
    services = services_dao.services_with_overdue(
        connection, notification_type, cutoffs, settings.retention_default_days
    )
    rows = overdue_dao.overdue(
        connection,
        notification_type,
        [(service_id, before) for service_id, before, _ in services],
        letter_statuses.of(settings),
        COUNT_NO_FURTHER,
    )
    keepers = overdue_dao.keepers(connection, notification_type)
    on_hold = {scope for scope, *_ in holds_dao.all_holds(connection)}
    for found in rows:
        kind = ON_HOLD if str(found.service_id) in on_hold else OVERDUE
        days = days_of[found.cutoff]
        why = keepers.get(found.service_id, ()) + keepers.get(days, ())
        yield from _told_apart(found, notification_type, kind, why, days, now, settings)
    without_service = count_without_service(connection, settings, notification_type, tonight)
    if without_service:
        yield Kept(NO_SERVICE, notification_type, None, without_service)


def _told_apart(
    found: overdue_dao.Overdue,
    notification_type: str,
    kind: str,
    why: tuple[str, ...],
    days: int,
    now: datetime,
    settings: Settings,
) -> Iterator[Kept]:
    """A service's rows that could go, and those that stay: letters that are under way or in no known status, and what
    other tables' rows refer to.

    `days` is its retention.
    """
    more = found.rows > COUNT_NO_FURTHER
    if found.oldest:
        if kind == OVERDUE and "missing-files" in why:
            kind = MISSING_FILES
        past = now - time_is_up(found.oldest, days, settings)
        stay = found.not_final + found.unknown_status + found.referred_to
        rows = min(max(found.rows - stay, 1), COUNT_NO_FURTHER)
        yield Kept(kind, notification_type, found.service_id, rows, past, more, why)
    for kept_as, count, oldest in (
        (NOT_FINAL, found.not_final, found.oldest_not_final),
        (UNKNOWN_STATUS, found.unknown_status, found.oldest_unknown_status),
        (REFERRED_TO, found.referred_to, found.oldest_referred_to),
    ):
        if oldest:
            past = now - time_is_up(oldest, days, settings)
            yield Kept(kept_as, notification_type, found.service_id, min(count, COUNT_NO_FURTHER), past, more)


def time_is_up(created_at: datetime, days: int, settings: Settings) -> datetime:
    """The local midnight (aware) from which on a row of that time is past a retention of so many days."""
    return clock.first_instant(first_night_past(created_at, days, settings), settings.zone)


def spoken(span: timedelta) -> str:
    """A span of time for people, in its largest unit."""
    for unit, seconds in UNITS:
        if (count := int(span.total_seconds() // seconds)) >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
