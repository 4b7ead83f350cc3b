"""Windows of time, and the keys of their files. Pure.

Windows are hours or days in UTC, as the column is: no change of a clock or of a setting's time zone moves their bounds.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Window:
    """From `first` until just before `before`, both aware, in UTC."""

    first: datetime
    before: datetime

    def __str__(self) -> str:
        is_hour = self.before - self.first == HOUR
        return f"{self.first:%Y-%m-%dT%H}" if is_hour else f"{self.first:%Y-%m-%d}"


def window_of(instant: datetime, length: timedelta) -> Window:
    """The window that an instant (aware) lies in."""
    first = EPOCH + (instant - EPOCH) // length * length
    return Window(first, first + length)


def key_of(prefix: str, table: str, window: Window) -> str:
    """The key of a window's file, Hive-style, with `{part}` in the place of its number."""
    place = f"{prefix}/table={table}/date={window.first:%Y-%m-%d}"
    if window.before - window.first == HOUR:
        place += f"/hour={window.first:%H}"
    return f"{place}/part-{{part}}.parquet"


def parse(words: str) -> Window:
    """A window from `2025-11-30` or `2025-11-30T07`. Raises ValueError."""
    for form, length in (("%Y-%m-%d", timedelta(days=1)), ("%Y-%m-%dT%H", HOUR)):
        try:
            first = datetime.strptime(words, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return Window(first, first + length)
    raise ValueError("a window is a day such as 2025-11-30, or an hour such as 2025-11-30T07, in UTC")
