"""The services, rows and files of a seed. Small, and with every awkward kind of row that the platform can have.

Names of files are made anew, from the platform's rules (tests/variants/policies.py) and not from the product's code.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from random import Random
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.variants.policies import DAY, LETTER, LONDON, MOST_FOLDERS, Policy, day_of_sending, first_moment

DEFAULT_DAYS = 7
MOST_WITHOUT_FILE = 3
"""Of all letters: fewer than the fifth at which a chain rests."""
SAFE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"

Columns = dict[str, object]


@dataclass
class Data:
    """Rows as columns. `files` are (bucket's role, key) to the id of the letter that owns the file, or None.

    `referring` are rows of other tables that point at notifications, by the table's name.
    """

    night: date
    zone: ZoneInfo
    policy: Policy
    services: list[UUID] = field(default_factory=list)
    days: dict[tuple[UUID, str], int] = field(default_factory=dict)
    live: list[Columns] = field(default_factory=list)
    history: list[Columns] = field(default_factory=list)
    files: dict[tuple[str, str], UUID | None] = field(default_factory=dict)
    referring: dict[str, list[Columns]] = field(default_factory=dict)

    @property
    def types(self) -> tuple[str, ...]:
        """The notification types that the platform has."""
        return self.policy.types

    def cutoff(self, service: UUID | None, notification_type: str) -> datetime:
        """The naive UTC of the moment that the night's retention reaches back to."""
        days = self.days.get((service, notification_type), DEFAULT_DAYS) if service else DEFAULT_DAYS
        return naive(self.policy.cutoff(self.night, days, self.zone))

    def kept_by_others(self) -> set[object]:
        """The ids of notifications that a row of another table keeps."""
        return {row["notification_id"] for table in self.policy.deferring for row in self.referring.get(table, ())}


def naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


class Maker:
    """Makes the data of one seed; faults use it to make more rows in the middle of a run."""

    def __init__(self, random: Random, night: date, zone: ZoneInfo, policy: Policy) -> None:
        self.random = random
        self.policy = policy
        self.data = Data(night, zone, policy)
        self._without_file = 0

    def make(self, *, big: int = 0) -> Data:
        """Two to four services; `big` more emails and half as many letters for the first one."""
        for _ in range(self.random.randint(2, 4)):
            self._service()
        for service in self.data.services:
            for kind in self.data.types:
                self._ordinary(service, kind, self.random.randint(2, 6))
                self._at_the_cutoff(service, kind)
        for service in self.data.services[:2] if LETTER in self.data.types else ():
            self._odd_letters(service)
        largest = self.data.services[0]
        self._ordinary(largest, "email", self.random.randint(45, 60) + big)
        if LETTER in self.data.types:
            self._ordinary(largest, LETTER, self.random.randint(12, 20) + big // 2)
        self._same_moment(largest)
        self._in_history_already(largest)
        self._nobodys()
        self._referred_to(largest)
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
            "sent_at": None,
            "updated_at": created_at + timedelta(minutes=5) if self.random.random() < 0.7 else None,
            "template_id": self.uuid(),
            "template_version": 1,
            "reference": self.reference() if kind == "letter" else None,
            "client_reference": self.random.choice((None, f"client-{self.random.randint(1, 9)}")),
            "billable_units": self.random.randint(0, 3),
            "international": False,
            "postage": self.random.choice(tuple(self.policy.classes)) if kind == "letter" else None,
        } | columns
        self.data.live.append(row)
        return row

    def letter(self, service: UUID, created_at: datetime, *, files: int = 1, **columns: object) -> Columns:
        """A letter with files in each of its places; a second file has another class and stamp."""
        row = self.row(service, LETTER, created_at, **{"sent_at": self._sent_at(created_at), **columns})
        for role, prefix in self.policy.places(row):
            for number in range(files):
                postage_class = (
                    self.policy.classes[str(row["postage"])]
                    if not number
                    else "2"
                    if row["postage"] != "second"
                    else "1"
                )
                stamp = created_at + timedelta(seconds=number)
                key = prefix + self.policy.name(postage_class, stamp)
                self.data.files[role, key] = row["id"]  # type: ignore[assignment]
        return row

    def _sent_at(self, created_at: datetime) -> datetime | None:
        """Where it decides something: within three days; now and then it was never noted."""
        if self.policy.day_of_folder is not day_of_sending or self.random.random() < 0.1:
            return None
        return created_at + timedelta(hours=self.random.uniform(0, 72))

    def reference(self) -> str:
        return "".join(self.random.choices(SAFE, k=16))

    def overdue_moment(self, service: UUID | None, kind: str) -> datetime:
        """A naive UTC moment past the cut-off, often within hours of it."""
        back = timedelta(minutes=self.random.choice((5, 90, 600, 3_000, 20_000)) * self.random.uniform(0.2, 1))
        return self.data.cutoff(service, kind) - back

    def _service(self) -> None:
        service = self.uuid()
        self.data.services.append(service)
        for kind in self.data.types:
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
                self.row(service, kind, created_at, notification_status=self.random.choice(self._statuses()), **key)
            else:
                has_none = self._without_file < MOST_WITHOUT_FILE and self.random.random() < 0.04
                self._without_file += has_none
                files = 0 if has_none else self.random.choice((1, 1, 1, 2))
                self.letter(
                    service, created_at, files=files, notification_status=self.random.choice(self.policy.final), **key
                )

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

        for status in self.policy.not_final:
            self.letter(service, moment(), notification_status=status)
        for status in ("validation-failed", "virus-scan-failed", "technical-failure"):
            self.letter(service, moment(), notification_status=status, key_type="normal")
        self.letter(service, moment(), key_type="test", notification_status="sending")
        self.row(service, "letter", moment(), reference=f"{self.reference()}.D", key_type="normal")  # ambiguous
        self._around_the_folders_border(service, moment())
        if self.policy.day_of_folder is day_of_sending:
            for days in (MOST_FOLDERS - 1, MOST_FOLDERS):  # in one folder more it is looked for no longer
                created_at = moment() - days * DAY
                self.letter(service, created_at, key_type="normal", sent_at=None, updated_at=created_at + days * DAY)

    def _around_the_folders_border(self, service: UUID, latest: datetime) -> None:
        for second in (-1, 0, 1):
            if self.policy.day_of_folder is day_of_sending:
                midnight = datetime.combine(latest.date(), time())
                self.letter(service, midnight - timedelta(hours=2), sent_at=midnight + timedelta(seconds=second))
            else:
                evening = datetime.combine(latest.date() - DAY, time(17, 30), LONDON)
                self.letter(service, naive(evening) + timedelta(seconds=second))

    def _same_moment(self, service: UUID) -> None:
        """More rows of one created_at than a step takes."""
        for kind, rows in (("email", 25), (LETTER, 13)):
            if kind not in self.data.types:
                continue
            created_at = self.overdue_moment(service, kind)
            for _ in range(rows):
                if kind == "letter":
                    self.letter(service, created_at, key_type="normal")
                else:
                    self.row(service, kind, created_at, key_type="normal")

    def _in_history_already(self, service: UUID) -> None:
        """History has the id: an older row of it, a newer one, one just as old; once with a test row."""
        for kind in self.data.types:
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
        for kind in self.data.types:
            self.row(None, kind, self.overdue_moment(None, kind))

    def _referred_to(self, service: UUID) -> None:
        """Notifications that rows of other tables point at: real ones and one of a test, and one that is not due."""
        for table in self.policy.referring:
            for kind in self.data.types:
                make = self.letter if kind == LETTER else partial(self.row, kind=kind)
                for key_type in ("normal", "test"):
                    self._refer(table, make(service, created_at=self.overdue_moment(service, kind), key_type=key_type))
                self._refer(table, make(service, created_at=self.data.cutoff(service, kind) + DAY))

    def _refer(self, table: str, row: Columns) -> None:
        columns: Columns = {"notification_id": row["id"]}
        if table == "scheduled_notifications":
            columns |= {"id": self.uuid(), "scheduled_for": row["created_at"]}
        else:
            columns |= {"id_type": "profile-id", "id_value": "private"}
        self.data.referring.setdefault(table, []).append(columns)

    def _statuses(self) -> tuple[str | None, ...]:
        return (*self.policy.final, *self.policy.not_final)
