"""What each platform of the family deletes when, and where its letters' files are.

Worked out here anew from the table of the platforms' differences, without the product's code and its presets, so that
one that is wrong is seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

EMAIL, SMS, LETTER = TYPES = ("email", "sms", "letter")
LONDON, NEW_YORK, ZONE_OF_UTC = ZoneInfo("Europe/London"), ZoneInfo("America/New_York"), ZoneInfo("UTC")
DAY = timedelta(days=1)
LETTERS, TESTS, INVALID, SCAN = FOUR_BUCKETS = ("letters", "tests", "invalid", "scan")
"""What buckets are for."""
CLASSES = MappingProxyType({"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"})
FINAL = ("delivered", "sent", "failed", "returned-letter", "cancelled", "temporary-failure", "permanent-failure")
NOT_FINAL = ("created", "sending", "pending", "pending-virus-check")
MOST_FOLDERS = 31
"""In no more of them is a letter of va-notify looked for that has no sent_at."""

Row = Mapping[str, Any]


@cache
def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """When a local date begins: found by stepping through the minutes around it, so that no rule is needed."""
    moment = datetime.combine(day - DAY, time(6), UTC)
    while moment.astimezone(zone).date() < day:
        moment += timedelta(minutes=15)
    return moment


def local_midnight(night: date, days: int, zone: ZoneInfo) -> datetime:
    """Of the local date that is so many days before."""
    return first_moment(night - days * DAY, zone)


def end_of_the_day(night: date, days: int, _zone: ZoneInfo) -> datetime:
    """UTC's, so many days before: the last microsecond of it."""
    return datetime.combine(night - days * DAY, time.max, UTC)


def midnight_of_utc(night: date, days: int, _zone: ZoneInfo) -> datetime:
    """So many days before."""
    return datetime.combine(night - days * DAY, time(), UTC)


def midnight_and_days_of_24_hours(night: date, days: int, zone: ZoneInfo) -> datetime:
    """The night's own local midnight, and back from there."""
    return first_moment(night, zone) - days * DAY


def day_of_making(row: Row) -> date:
    """The local date of created_at, past half past five the next one."""
    local = row["created_at"].replace(tzinfo=UTC).astimezone(LONDON)
    return local.date() + DAY if local.time() > time(17, 30) else local.date()


def day_of_sending(row: Row) -> date:
    """The UTC date of sent_at. Where that was never noted, the file may have been written the day after the row."""
    return (row["sent_at"] or row["created_at"] + DAY).date()


@dataclass(frozen=True)
class Policy:
    """A platform's rules."""

    cutoff: Callable[[date, int, ZoneInfo], datetime] = local_midnight
    """Aware: where a night (its local date) cuts a retention of so many days off."""
    zone: ZoneInfo = LONDON
    """Of the nights."""
    types: tuple[str, ...] = TYPES
    buckets: tuple[str, ...] = FOUR_BUCKETS
    """That letters' files are in, by what they are for. None: letters have no files."""
    day_of_folder: Callable[[Row], date] = day_of_making
    classes: Mapping[str, str] = field(default_factory=lambda: CLASSES)
    """In files' names, by postage."""
    crown: str = ""
    """Of files' names, with its dot: the part before the time stamp that some platforms write."""
    final: tuple[str | None, ...] = FINAL
    not_final: tuple[str | None, ...] = (*NOT_FINAL, None)
    """Statuses with which a letter stays."""
    tests_in_any_status: bool = False
    """Whether test letters go with those, too."""
    deferring: tuple[str, ...] = ()
    """Tables that point at notifications: what a row of theirs refers to stays, and so does that row."""
    cascading: tuple[str, ...] = ()
    """Tables whose rows go with the notification that they refer to."""

    @property
    def referring(self) -> tuple[str, ...]:
        """All tables that point at notifications."""
        return self.deferring + self.cascading

    def places(self, row: Row) -> list[tuple[str, str]]:
        """Where a letter's files are: what the bucket is for, and the prefix."""
        if not self.buckets:
            return []
        name = f"NOTIFY.{row['reference']}."
        dated = (LETTERS, f"{self.day_of_folder(row):%Y-%m-%d}/{name}")
        if self.buckets == (LETTERS,):
            return [dated]
        if row["key_type"] == "test":
            return [(TESTS, name)]
        return {
            "validation-failed": [(INVALID, name)],
            "virus-scan-failed": [(SCAN, f"FAILURE/{name}"), dated],
            "technical-failure": [dated, (SCAN, f"ERROR/{name}")],
        }.get(row["notification_status"], [dated])

    def keeps(self, row: Row) -> bool:
        """Whether a letter's status keeps it."""
        return row["notification_status"] in self.not_final and not (
            self.tests_in_any_status and row["key_type"] == "test"
        )

    def name(self, postage_class: str, stamp: datetime) -> str:
        """The part of a file's name behind the reference's dot."""
        return f"D.{postage_class}.C.{self.crown}{stamp:%Y%m%d%H%M%S}.PDF"

    @property
    def folder_may_be_unknown(self) -> bool:
        """Whether a letter may lack the date by which its folder goes."""
        return self.day_of_folder is day_of_sending

    def is_unsent(self, row: Row) -> bool:
        """Whether it is a letter that lacks that date."""
        return row["notification_type"] == LETTER and self.folder_may_be_unknown and row["sent_at"] is None

    def is_anywhere(self, row: Row) -> bool:
        """Whether a letter's files could be in more folders than anybody looks through."""
        changed_at = row["updated_at"] or row["created_at"]
        return self.is_unsent(row) and (changed_at.date() - row["created_at"].date()).days >= MOST_FOLDERS


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "own": Policy(),
        "govuk-notify": Policy(not_final=NOT_FINAL, tests_in_any_status=True),
        "gc-notify": Policy(
            cutoff=end_of_the_day,
            zone=ZONE_OF_UTC,
            buckets=(),
            final=(*FINAL, *NOT_FINAL, None),
            not_final=(),
            deferring=("scheduled_notifications",),
        ),
        "us-notify": Policy(
            cutoff=midnight_of_utc,
            zone=ZONE_OF_UTC,
            types=(EMAIL, SMS),
            buckets=(),
            final=tuple(status for status in FINAL if status != "returned-letter"),
        ),
        "va-notify": Policy(
            cutoff=midnight_and_days_of_24_hours,
            zone=NEW_YORK,
            buckets=(LETTERS,),
            day_of_folder=day_of_sending,
            classes=MappingProxyType(dict.fromkeys(CLASSES, "2")),
            crown="C.",
            final=(*FINAL, *NOT_FINAL, "pii-check-failed", "preferences-declined", None),
            not_final=(),
            deferring=("scheduled_notifications",),
            cascading=("recipient_identifiers",),
        ),
    }
)
