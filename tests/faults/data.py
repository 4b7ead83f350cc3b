"""The services, rows and files of a seed. Small, and with every awkward kind of row.

Names of files are made here anew, from the platform's rules and not from the product's code.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from uuid import UUID
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
DEFAULT_DAYS = 7
TYPES = ("email", "sms", "letter")
CLASSES = {"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"}
FINAL = ("delivered", "sent", "failed", "returned-letter", "cancelled", "temporary-failure", "permanent-failure")
NOT_FINAL = ("created", "sending", "pending-virus-check", None)
LETTERS, TESTS, INVALID, SCAN = "letters", "tests", "invalid", "scan"
MOST_WITHOUT_FILE = 3
"""Of all letters: fewer than the fifth at which a chain rests."""
SAFE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"

Columns = dict[str, object]


@dataclass
class Data:
    """Rows as columns. `files` are (bucket's role, key) to the id of the letter that owns the file, or None."""

    night: date
    zone: ZoneInfo
    services: list[UUID] = field(default_factory=list)
    days: dict[tuple[UUID, str], int] = field(default_factory=dict)
    live: list[Columns] = field(default_factory=list)
    history: list[Columns] = field(default_factory=list)
    files: dict[tuple[str, str], UUID | None] = field(default_factory=dict)

    def cutoff(self, service: UUID | None, notification_type: str) -> datetime:
        """The naive UTC of the local midnight that the night's retention reaches back to."""
        days = self.days.get((service, notification_type), DEFAULT_DAYS) if service else DEFAULT_DAYS
        return naive(first_moment(self.night - timedelta(days=days), self.zone))


@cache
def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """When a local date begins: found by stepping through the minutes around it, so that no rule is needed."""
    moment = datetime.combine(day - timedelta(days=1), time(6), UTC)
    while moment.astimezone(zone).date() < day:
        moment += timedelta(minutes=15)
    return moment


def naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


class Maker:
    """Makes the data of one seed; faults use it to make more rows in the middle of a run."""

    def __init__(self, random: Random, night: date, zone: ZoneInfo) -> None:
        self.random = random
        self.data = Data(night, zone)
        self._without_file = 0

    def make(self, *, big: int = 0) -> Data:
        """Two to four services; `big` more emails and half as many letters for the first one."""
        for _ in range(self.random.randint(2, 4)):
            self._service()
        for service in self.data.services:
            for kind in TYPES:
                self._ordinary(service, kind, self.random.randint(2, 6))
                self._at_the_cutoff(service, kind)
        for service in self.data.services[:2]:
            self._odd_letters(service)
        largest = self.data.services[0]
        self._ordinary(largest, "email", self.random.randint(45, 60) + big)
        self._ordinary(largest, "letter", self.random.randint(12, 20) + big // 2)
        self._same_moment(largest)
        self._in_history_already(largest)
        self._nobodys()
        return self.data

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def row(self, service: UUID | None, kind: str, created_at: datetime, **columns: object) -> Columns:
        """A live row, delivered and real unless said otherwise. `created_at` is naive UTC."""
        row: Columns = {
            "id": self.uuid(),
            "to": "someone.private@example.test",
            "normalised_to": "someone.private@example.test",
            "_personalisation": "private content",
            "service_id": service,
            "notification_type": kind,
            "key_type": self.random.choice(("normal", "normal", "team")),
            "notification_status": "delivered",
            "created_at": created_at,
            "updated_at": created_at + timedelta(minutes=5) if self.random.random() < 0.7 else None,
            "template_id": self.uuid(),
            "template_version": 1,
            "reference": self.reference() if kind == "letter" else None,
            "client_reference": self.random.choice((None, f"client-{self.random.randint(1, 9)}")),
            "billable_units": self.random.randint(0, 3),
            "international": False,
            "postage": self.random.choice(tuple(CLASSES)) if kind == "letter" else None,
        } | columns
        self.data.live.append(row)
        return row

    def letter(self, service: UUID, created_at: datetime, *, files: int = 1, **columns: object) -> Columns:
        """A letter with files in each of its places; a second file has another class and stamp."""
        row = self.row(service, "letter", created_at, **columns)
        for role, prefix in places(row):
            for number in range(files):
                postage_class = (
                    CLASSES[str(row["postage"])] if not number else "2" if row["postage"] != "second" else "1"
                )
                stamp = created_at + timedelta(seconds=number)
                key = f"{prefix}D.{postage_class}.C.{stamp:%Y%m%d%H%M%S}.PDF"
                self.data.files[role, key] = row["id"]  # type: ignore[assignment]
        return row

    def reference(self) -> str:
        return "".join(self.random.choices(SAFE, k=16))

    def overdue_moment(self, service: UUID | None, kind: str) -> datetime:
        """A naive UTC moment past the cut-off, often within hours of it."""
        back = timedelta(minutes=self.random.choice((5, 90, 600, 3_000, 20_000)) * self.random.uniform(0.2, 1))
        return self.data.cutoff(service, kind) - back

    def _service(self) -> None:
        service = self.uuid()
        self.data.services.append(service)
        for kind in TYPES:
            days = self.random.choice((None, None, 1, 3, 5, 14))
            if days is not None:
                self.data.days[service, kind] = days
        if len(self.data.services) == 2 and self.random.random() < 0.5:
            self.data.days[service, "sms"] = self.random.choice((0, -1))

    def _ordinary(self, service: UUID, kind: str, rows: int) -> None:
        for _ in range(rows):
            created_at = self.overdue_moment(service, kind)
            key = {"key_type": "test"} if self.random.random() < 0.15 else {}
            if kind != "letter":
                self.row(service, kind, created_at, notification_status=self.random.choice((*FINAL, *NOT_FINAL)), **key)
            else:
                has_none = self._without_file < MOST_WITHOUT_FILE and self.random.random() < 0.04
                self._without_file += has_none
                files = 0 if has_none else self.random.choice((1, 1, 1, 2))
                self.letter(service, created_at, files=files, notification_status=self.random.choice(FINAL), **key)

    def _at_the_cutoff(self, service: UUID, kind: str) -> None:
        """The boundary: just before it, at it, and after."""
        if self.data.days.get((service, kind), 1) <= 0:
            cutoff = naive(first_moment(self.data.night, self.data.zone)) - timedelta(days=3)
        else:
            cutoff = self.data.cutoff(service, kind)
        hour, tick = timedelta(hours=1), timedelta(microseconds=1)
        for created_at in (cutoff - hour, cutoff - tick, cutoff, cutoff + tick, cutoff + hour, cutoff + hour * 20):
            if kind == "letter":
                self.letter(service, created_at)
            else:
                self.row(service, kind, created_at, key_type=self.random.choice(("normal", "test")))

    def _odd_letters(self, service: UUID) -> None:
        def moment() -> datetime:
            return self.overdue_moment(service, "letter")

        for status in NOT_FINAL:
            self.letter(service, moment(), notification_status=status)
        for status in ("validation-failed", "virus-scan-failed", "technical-failure"):
            self.letter(service, moment(), notification_status=status, key_type="normal")
        self.letter(service, moment(), key_type="test", notification_status="sending")
        self.row(service, "letter", moment(), reference=f"{self.reference()}.D", key_type="normal")  # ambiguous
        evening = datetime.combine(moment().date() - timedelta(days=1), time(17, 30))
        for second in (-1, 0, 1):
            created_at = naive(evening.replace(tzinfo=LONDON)) + timedelta(seconds=second)
            self.letter(service, created_at)

    def _same_moment(self, service: UUID) -> None:
        """More rows of one created_at than a step takes."""
        for kind, rows in (("email", 25), ("letter", 13)):
            created_at = self.overdue_moment(service, kind)
            for _ in range(rows):
                if kind == "letter":
                    self.letter(service, created_at, key_type="normal")
                else:
                    self.row(service, kind, created_at, key_type="normal")

    def _in_history_already(self, service: UUID) -> None:
        """History has the id: an older row of it, a newer one, one just as old; once with a test row."""
        for kind in TYPES:
            for minutes in (-60, 0, 60):
                created_at = self.overdue_moment(service, kind)
                changed_at = created_at + timedelta(hours=2)
                made = {"key_type": "normal", "updated_at": changed_at}
                row = (
                    self.letter(service, created_at, **made)
                    if kind == "letter"
                    else self.row(service, kind, created_at, **made)
                )
                self._history(row, changed_at + timedelta(minutes=minutes))
        self._history(self.row(service, "email", created_at, key_type="normal"), None, id=self.uuid())

    def _history(self, row: Columns, updated_at: datetime | None, **columns: object) -> None:
        live_only = {"to", "normalised_to", "_personalisation"}
        kept = {name: value for name, value in row.items() if name not in live_only}
        mark = {"updated_at": updated_at, "client_reference": "from history"}
        self.data.history.append(kept | mark | columns)

    def _nobodys(self) -> None:
        """Files that look almost like a letter's, and rows of no service."""
        for role, key in list(self.data.files)[:: max(1, len(self.data.files) // 4)]:
            start, dot, rest = key.partition(".D.")
            self.data.files[role, f"{start}X{dot}{rest}"] = None
            self.data.files[role, f"{start}{dot}{rest}.bak"] = None
        for kind in TYPES:
            self.row(None, kind, self.overdue_moment(None, kind))


def places(row: Columns) -> list[tuple[str, str]]:
    """Where a letter's files are: bucket's role and prefix."""
    name = f"NOTIFY.{row['reference']}."
    local = row["created_at"].replace(tzinfo=UTC).astimezone(LONDON)  # type: ignore[attr-defined]
    day = local.date() + timedelta(days=1 if local.time() > time(17, 30) else 0)
    dated = (LETTERS, f"{day:%Y-%m-%d}/{name}")
    if row["key_type"] == "test":
        return [(TESTS, name)]
    if row["notification_status"] == "validation-failed":
        return [(INVALID, name)]
    if row["notification_status"] == "virus-scan-failed":
        return [(SCAN, f"FAILURE/{name}"), dated]
    if row["notification_status"] == "technical-failure":
        return [dated, (SCAN, f"ERROR/{name}")]
    return [dated]
