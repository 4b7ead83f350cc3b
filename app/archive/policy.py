"""Which rows are archived: a declaration, made from the settings."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.archive.windows import HOUR, Window, window_of
from app.config import Settings
from app.dao.catalogue import HISTORY


@dataclass(frozen=True)
class ArchivePolicy:
    """Rows of a table, older than `after_days` by the column `age`, a window of `length` at a time."""

    table: str
    age: str
    after_days: int
    length: timedelta

    def window_at(self, instant: datetime) -> Window:
        """The window of a row of that age (aware)."""
        return window_of(instant, self.length)

    def closed_before(self, now: datetime) -> datetime:
        """The end of the last window all of whose rows are old enough."""
        return window_of(now - timedelta(days=self.after_days), self.length).first


def history(settings: Settings) -> ArchivePolicy:
    """The policy of notification_history."""
    length = HOUR if settings.archive_window == "hour" else timedelta(days=1)
    return ArchivePolicy(HISTORY, "created_at", settings.archive_after_days, length)
