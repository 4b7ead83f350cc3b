"""Builds the index of a day's folder, a few pages at a time.

Each part is a commit of its own, with how far it has come: a worker killed half-way leaves an index that is not
complete, and the next step goes on with it. One builder per folder has the lease. It takes no more than a share of
its step's time; the step's own transaction waits meanwhile, with no other one open while S3 is asked.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

import structlog

from app import clock
from app.dao import folders_dao
from app.dao.folders_dao import FOLDERS, FolderIndex
from app.db import db
from app.engine import leases
from app.engine.leases import BackOff, Lease, LeaseLost
from app.retention.report import INDEXING
from app.retention.tools import Tools
from app.storage import object_keys
from app.storage.client import Deadline
from app.storage.errors import Stopped
from app.storage.listing import Cursor, ObjectShelf, StoredFile
from app.storage.naming import FILE_PREFIX, dated_key

log = structlog.get_logger(__name__)

PAGES_PER_COMMIT = 10
SHARE_OF_BUDGET = 0.25
"""So much of a step's time may go into building; what is left must be enough to find, delete and move."""
LEASE_IN_BUDGETS = 1 / 3
"""Renewed with every part. Short, since others wait for a dead builder's; one that outlives it adds nothing more."""
AT_ONCE = BackOff(0)
"""Whoever needs the folder next goes on with it."""
MOST_ATTEMPTS = 3
"""After so many builders in a row that got nowhere, each step lists for itself."""


@dataclass(frozen=True)
class Part:
    """Some pages of a folder: the letters' files in them (reference, rest), and where they end."""

    names: list[tuple[str, str]]
    pages: int
    listed_to: str | None
    next: Cursor | None
    """None: the folder ends here."""


def is_to_be_built(index: FolderIndex) -> bool:
    """Whether the folder is not indexed yet, is still worth it, and can be."""
    return _is_unfinished(index) and index.attempts < MOST_ATTEMPTS


def _is_unfinished(index: FolderIndex) -> bool:
    return not index.complete and index.pages < index.worth_pages


class Builder:
    """For one step, whose deadline it keeps."""

    def __init__(self, tools: Tools, night: date, deadline: Deadline) -> None:
        self._night, self._deadline = night, deadline
        self._budget = tools.settings.step_budget_seconds
        self._lease_seconds = self._budget * LEASE_IN_BUDGETS

    def go_on(self, shelf: ObjectShelf, bucket: str, index: FolderIndex) -> bool:
        """Build until the index is complete or not worth it any more. Returns False if someone else builds it.

        Raises Stopped with INDEXING when this step's time for it is up, and what the shelf raises.
        """
        with db.transaction() as ahead:
            now = clock.now()
            taken = leases.acquire(ahead, FOLDERS, index.id, now=now, seconds=self._lease_seconds, retry=AT_ONCE)
        if taken is None:
            return False
        lease, row = taken
        try:
            self._build(shelf, bucket, lease, FolderIndex(**row))
        except LeaseLost:
            return False
        except BaseException:
            self._give_back(lease, failed=True)
            raise
        self._give_back(lease, failed=False)
        return True

    def _build(self, shelf: ObjectShelf, bucket: str, lease: Lease, index: FolderIndex) -> None:
        after = _where_to_go_on(shelf, bucket, index)
        while _is_unfinished(index):
            part = _list_part(shelf, index, after)
            index, after = self._add(bucket, index, lease, part), part.next or {}
            if _is_unfinished(index) and self._time_is_up():
                raise Stopped(INDEXING)
        _say(bucket, index)

    def _give_back(self, lease: Lease, *, failed: bool) -> None:
        with suppress(LeaseLost), db.transaction() as ahead:
            leases.give_back(ahead, lease, due_at=clock.now(), failed=failed)

    def _add(self, bucket: str, index: FolderIndex, lease: Lease, part: Part) -> FolderIndex:
        with db.transaction() as ahead:
            added = folders_dao.add(
                ahead,
                index,
                lease,
                part.names,
                pages=part.pages,
                listed_to=part.listed_to,
                complete=part.next is None,
                until=clock.now() + timedelta(seconds=self._lease_seconds),
            )
            if added.complete:
                folders_dao.record_counts(ahead, self._night, bucket, added)
        return added

    def _time_is_up(self) -> bool:
        return self._deadline.remaining() < self._budget * (1 - SHARE_OF_BUDGET)


def _where_to_go_on(shelf: ObjectShelf, bucket: str, index: FolderIndex) -> Cursor:
    if index.listed_to is None:
        return {}
    return shelf.behind(StoredFile(bucket, object_keys.from_column(index.listed_to), None))


def _list_part(shelf: ObjectShelf, index: FolderIndex, after: Cursor) -> Part:
    names: list[tuple[str, str]] = []
    listed_to, pages, cursor = index.listed_to, 0, after
    at_most = min(PAGES_PER_COMMIT, index.worth_pages - index.pages)
    while True:
        page = shelf.page(index.folder + FILE_PREFIX, cursor)
        keys = [key for file in page.files if (key := dated_key(file.key))]
        names += [(key.reference, key.rest) for key in keys]
        listed_to, pages = object_keys.to_column(page.last_key) or listed_to, pages + 1
        if page.next is None or pages == at_most:
            return Part(names, pages, listed_to, page.next)
        cursor = page.next


def _say(bucket: str, index: FolderIndex) -> None:
    """Counts and the folder's date: a key holds a reference."""
    log.info(
        "folder-indexed" if index.complete else "folder-not-worth-an-index",
        bucket=bucket,
        folder=index.folder,
        pages=index.pages,
        files=index.files,
        without_row=index.orphans,
    )
