"""The book in which the awkward cases are entered: their rows, their files, and what must become of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from dev import seed_ordinary
from dev.seed_model import (
    LONDON,
    Buckets,
    Expected,
    Outcome,
    Row,
    Service,
    StoredFile,
    places,
    stored_files,
)
from dev.seed_ordinary import Source


@dataclass
class Cases:
    """Collects what the cases make. `usual` keeps for the default time, `largest` is the largest service."""

    source: Source
    buckets: Buckets
    usual: Service
    largest: Service
    services: list[Service]
    rows: list[Row] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    files: list[StoredFile] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    case: str = ""

    @property
    def messages(self) -> list[Row]:
        return [row for row in self.rows if row.notification_type != "letter"]

    @property
    def letters(self) -> list[Row]:
        return [row for row in self.rows if row.notification_type == "letter"]

    def service(self, name: str, **days: int) -> Service:
        self.services.append(new_service(self.source, name, days))
        return self.services[-1]

    def message(self, outcome: Outcome, kind: str = "email", **columns: Any) -> Row:
        """A delivered message of 20 days ago, but for `columns`; `outcome` is what must become of it."""
        row = seed_ordinary.message(self.source, self.usual, kind, self.days_ago(20))
        row = replace(row, **{"key_type": "normal", "notification_status": "delivered"} | columns)
        self.rows.append(row)
        self.expected.append(Expected(self.case, row.id, outcome))
        return row

    def letter(self, outcome: Outcome, *, files: Iterable[StoredFile] | None = None, **columns: Any) -> Row:
        """A delivered letter of 20 days ago, but for `columns`, with its own file or with `files`.

        Its files must go with it, or stay with it.
        """
        row = self.unsaved_letter(**columns)
        stored = stored_files(row, self.buckets) if files is None else list(files)
        self.rows.append(row)
        self.files += stored
        if outcome in ("moved", "deleted"):
            self.expected.append(Expected(self.case, row.id, outcome, files_gone=places(stored)))
        else:
            self.expected.append(Expected(self.case, row.id, outcome, files_kept=places(stored)))
        return row

    def unsaved_letter(self, **columns: Any) -> Row:
        """For a case that needs to know the row before it can say which files there are."""
        row = seed_ordinary.letter(self.source, self.usual, self.days_ago(20))
        return replace(row, **{"key_type": "normal", "notification_status": "delivered"} | columns)

    def bystanders(self, *files: StoredFile) -> None:
        """Files that must stay, whatever becomes of the case's last row."""
        self.files += files
        last = self.expected.pop()
        self.expected.append(replace(last, files_kept=last.files_kept | places(files)))

    def into_history(self, live: Row, **columns: Any) -> None:
        """A row in history beside its live one."""
        self.history.append(replace(live, **columns))
        status = self.history[-1].notification_status
        newer = touched(self.history[-1]) > touched(live)
        last = self.expected.pop()
        self.expected.append(replace(last, history_status=status if newer else live.notification_status))

    def days_ago(self, days: int, at: time = time(11, 30)) -> datetime:
        """A local time of day in the past, in UTC."""
        return self.local(self.source.now.astimezone(LONDON) - timedelta(days=days), at)

    @staticmethod
    def local(day: datetime, at: time) -> datetime:
        return datetime.combine(day.date(), at, LONDON).astimezone(UTC)


def new_service(source: Source, name: str, days: dict[str, int]) -> Service:
    """A service of the cases' own."""
    return Service(source.uuid(), name, source.now - timedelta(days=950), days=days)


def touched(row: Row) -> datetime:
    """What decides which of a live row and one in history is the newer."""
    return row.updated_at or row.created_at
