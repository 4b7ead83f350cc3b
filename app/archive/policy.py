"""Which rows are archived: a declaration, made from the settings."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.archive.windows import Window, window_of
from app.config import Settings
from app.dao.catalogue import HISTORY
from app.state.archive import closed_before


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
        return closed_before(now, self.after_days, self.length)


def history(settings: Settings) -> ArchivePolicy:
    """The policy of notification_history."""
    return ArchivePolicy(HISTORY, "created_at", settings.archive_after_days, settings.archive_window_length)
