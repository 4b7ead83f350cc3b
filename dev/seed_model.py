"""What a seed is made of: services, notifications, files, and what must become of the awkward ones.

The names of letter files are put together here anew, from the platform's rules and without `app.storage`: a
mistake there must not make a seed that agrees with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
DAY_ENDS = time(17, 30)
DEFAULT_DAYS = 7
CLASSES = {"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"}

Outcome = Literal["moved", "deleted", "stays", "deferred"]


class Buckets(NamedTuple):
    """The names of the four buckets."""

    letters: str
    test: str
    invalid: str
    scan: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Buckets":
        names = ("LETTERS_PDF", "TEST_LETTERS", "INVALID_PDF", "LETTERS_SCAN")
        return cls(*(environment[f"S3_BUCKET_{name}"] for name in names))


class StoredFile(NamedTuple):
    """An object in S3, and the line of text in its PDF."""

    bucket: str
    key: str
    line: str = ""

    @property
    def place(self) -> tuple[str, str]:
        return self.bucket, self.key


@dataclass(slots=True)
class Service:
    """A service; `days` has its retention for the types in which it differs from the default."""

    id: UUID
    name: str
    created_at: datetime
    active: bool = True
    days: dict[str, int] = field(default_factory=dict)

    def days_of(self, notification_type: str) -> int:
        return self.days.get(notification_type, DEFAULT_DAYS)


@dataclass(slots=True)
class Row:
    """A row of `notifications` or `notification_history`. Times are aware, in UTC."""

    id: UUID
    notification_type: str
    service_id: UUID | None
    created_at: datetime
    template_id: UUID
    to: str = ""
    key_type: str = "normal"
    notification_status: str | None = "delivered"
    normalised_to: str | None = None
    sent_at: datetime | None = None
    sent_by: str | None = None
    updated_at: datetime | None = None
    reference: str | None = None
    client_reference: str | None = None
    personalisation: str | None = None
    reply_to_text: str | None = None
    unsubscribe_link: str | None = None
    template_version: int = 1
    job_id: UUID | None = None
    job_row_number: int | None = None
    api_key_id: UUID | None = None
    created_by_id: UUID | None = None
    billable_units: int = 1
    international: bool = False
    phone_prefix: str | None = None
    rate_multiplier: int | None = None
    postage: str | None = None
    document_download_count: int | None = None


@dataclass(frozen=True)
class Expected:
    """What must become of one awkward row, and of files that have to do with it."""

    case: str
    id: UUID
    outcome: Outcome
    files_gone: frozenset[tuple[str, str]] = frozenset()
    files_kept: frozenset[tuple[str, str]] = frozenset()
    history_status: str | None = None


def day_folder(created_at: datetime, zone: ZoneInfo = LONDON) -> str:
    """The folder of a letter: its local date, the next one when the local time is past 17:30:00."""
    local = created_at.astimezone(zone)
    late = timedelta(days=1) if local.time() > DAY_ENDS else timedelta()
    return f"{local.date() + late}/"


def file_name(reference: str, postage: str | None, created_at: datetime) -> str:
    letter_class = CLASSES[postage or "second"]
    return f"NOTIFY.{reference}.D.{letter_class}.C.{created_at:%Y%m%d%H%M%S}.PDF".upper()


def stored_files(row: Row, buckets: Buckets, *, zone: ZoneInfo = LONDON) -> list[StoredFile]:
    """The file of a letter where the platform would have put it; none without a reference."""
    if not row.reference:
        return []
    name = file_name(row.reference, row.postage, row.created_at)
    bucket, prefix = _home(row, buckets, day_folder(row.created_at, zone))
    return [StoredFile(bucket, prefix + name, f"Letter {row.reference}")]


def _home(row: Row, buckets: Buckets, folder: str) -> tuple[str, str]:
    if row.key_type == "test":
        return buckets.test, ""
    if row.notification_status == "technical-failure":  # it failed before, or after, it left the scan
        return (buckets.scan, "ERROR/") if row.id.int % 2 else (buckets.letters, folder)
    return {
        "pending-virus-check": (buckets.scan, ""),
        "validation-failed": (buckets.invalid, ""),
        "virus-scan-failed": (buckets.scan, "FAILURE/"),
    }.get(row.notification_status or "", (buckets.letters, folder))


def places(files: Iterable[StoredFile]) -> frozenset[tuple[str, str]]:
    return frozenset(file.place for file in files)
