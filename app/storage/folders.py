"""The days' folders of letters: which of them a letter's file can be in, by when it was made or sent."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

LAST_TIME_OF_FOLDER = time(17, 30)
"""Local time. A letter made at 17:30:00.000000 sharp is in that day's folder; one made a microsecond
later is in the next day's (the platform compares with `>`)."""

MOST_FOLDERS = 31
"""A letter that was never sent is looked for in no more of them."""
ONE_DAY = timedelta(days=1)
BEFORE_ANY_LETTER = datetime(1970, 1, 1, tzinfo=UTC)


class FolderUnknown(ValueError):
    """Nothing says in which of very many folders the letter's file would be."""


def of_local_date(created_at: datetime, zone: ZoneInfo) -> str:
    """`YYYY-MM-DD/`: the local date of created_at (aware), or the day after past 17:30:00 local time."""
    local = created_at.astimezone(zone)
    day = local.date()
    if local.time() > LAST_TIME_OF_FOLDER:
        day += ONE_DAY
    return _named(day)


def made_between(folder: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The letters of a folder by local date have `first <= created_at < second` (aware, UTC)."""
    day = date.fromisoformat(folder.removesuffix("/"))
    border = (datetime.combine(one, LAST_TIME_OF_FOLDER, zone) for one in (day - ONE_DAY, day))
    first, second = (local.astimezone(UTC) + timedelta(microseconds=1) for local in border)
    return first, second


def by_date_sent(
    id_: UUID, sent_at: datetime | None, created_at: datetime, updated_at: datetime | None
) -> Sequence[str]:
    """The folder of the UTC date of sent_at (all are aware).

    A letter without it was never sent, or its file was written and that was not noted. So it is looked for under every
    date on which it can have been written: from created_at to the row's last change, and the day after it was made in
    any case, since it may have been made just before midnight. Raises FolderUnknown when these are too many.
    """
    if sent_at is not None:
        return [_named(sent_at.astimezone(UTC).date())]
    first = created_at.astimezone(UTC).date()
    last = max(first + ONE_DAY, (updated_at or created_at).astimezone(UTC).date())
    days = (last - first).days + 1
    if days > MOST_FOLDERS:
        raise FolderUnknown(f"letter {id_} was never sent, and changed {days} days after it was made")
    return [_named(first + number * ONE_DAY) for number in range(days)]


def sent_until(folder: str) -> tuple[datetime, datetime]:
    """Letters of a folder by the date on which they were sent have `first <= created_at < second` (aware, UTC)."""
    day = date.fromisoformat(folder.removesuffix("/"))
    return BEFORE_ANY_LETTER, datetime.combine(day + ONE_DAY, time(), UTC)


def _named(day: date) -> str:
    return f"{day.isoformat()}/"
