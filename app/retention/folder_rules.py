"""When a day's folder is worth an index of the night's own, and what such an index proves. Pure functions."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from app.dao.folders_dao import Found
from app.storage.listing import KEYS_PER_PAGE

INDEXED_PAGE_IN_LISTINGS = 1.2
"""A page that goes into the index costs a listing, and the writing of its rows."""
CLOCKS_APART = timedelta(minutes=5)
"""The platform's clock may differ from ours by so much, and so late may it write a file after the row."""


@dataclass(frozen=True)
class ServiceLetters:
    """What one service has in a day's folder."""

    letters: int
    """Rows, so probably files."""
    overdue: int
    """Of them, those that the night will look for."""


def pages_worth_indexing(services: Collection[ServiceLetters], letters_per_step: int) -> int:
    """The most pages that an index of the folder may take to be cheaper than listings by each step; 0: none.

    Without an index, each step lists the prefixes of its letters one by one, or pages through the folder where that
    is fewer requests (`app.storage.listing`). With one, the folder is listed once. It is not begun when the rows
    say that it will take more than is returned here, and given up when it does: the folder has files without rows.
    """
    pages = max(1, ceil(sum(service.letters for service in services) / KEYS_PER_PAGE))
    listings = sum(_listings(service.overdue, pages, letters_per_step) for service in services)
    worth = int(listings / INDEXED_PAGE_IN_LISTINGS)
    return worth if worth >= pages else 0


def _listings(letters: int, pages: int, letters_per_step: int) -> int:
    whole_steps, rest = divmod(letters, letters_per_step)
    return whole_steps * min(letters_per_step, pages) + min(rest, pages)


def is_proof(index: Found, updated_at: datetime | None, written_by: int, now: datetime, limit_seconds: float) -> bool:
    """Whether an index knows every file of a letter whose row is as it is since `updated_at`.

    The row must have been there, as the transaction `written_by` wrote it: one that arrives later may bring a file,
    whatever its times say. And its own time must be older, since a file may come a little later than the row. A row
    without a time proves nothing: then the index must be as fresh as a step's own listing may be.
    """
    if written_by >= index.begun_xmin:
        return False
    if updated_at is None:
        return now - index.begun_at <= timedelta(seconds=limit_seconds)
    return updated_at + CLOCKS_APART < index.begun_at
