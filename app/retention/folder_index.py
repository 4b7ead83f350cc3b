"""The night's index of the letters' day folders, shared by the steps of all services.

A folder is listed once, when that is cheaper than what the night's steps would list of it one by one. The first step
that comes to the folder decides that, and has it built (`folder_build.py`); until it is complete nobody reads it.

What it says counts only for letters whose rows are older than it (`folder_rules.is_proof`); others are listed again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import structlog
from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from app import clock
from app.dao import folders_dao, turns_dao
from app.dao.folders_dao import FolderIndex
from app.db import db
from app.engine import stops
from app.models.types import LETTER
from app.retention.cutoffs import cutoff_of_days
from app.retention.folder_build import Builder, is_to_be_built
from app.retention.folder_rules import ServiceLetters, is_proof, pages_worth_indexing
from app.retention.report import INDEX_AWAITED
from app.retention.tools import Tools
from app.storage.client import Deadline
from app.storage.errors import Stopped
from app.storage.listing import ObjectShelf, StoredFile
from app.storage.naming import Letter, Place, dated_key

log = structlog.get_logger(__name__)

LONGEST_KEPT = timedelta(hours=12)
"""An index holds references: it goes when no letters' chain waits any more, or when it is so old."""
SECONDS_TO_WAIT_FOR_STEPS = 1


class NightsIndex:
    """For one step: answers from the index, which it may have to build first. A `storage.catalogue.Catalogue`."""

    def __init__(self, tools: Tools, night: date, written_by: Mapping[UUID, int], deadline: Deadline) -> None:
        """`written_by`: of each letter, the number of the transaction that wrote the row's version that was chosen."""
        self._tools, self._night, self._written_by = tools, night, written_by
        self._builder = Builder(tools, night, deadline)
        self.is_news = False
        """Whether this step made an end of building an index that others may wait for."""

    def answers(
        self, shelf: ObjectShelf, bucket: str, wanted: Mapping[Place, Sequence[Letter]]
    ) -> dict[str, tuple[StoredFile, ...]]:
        """See Catalogue. Raises Stopped with INDEXING or INDEX_AWAITED when an index must be finished first."""
        in_folder = {place: folder for place in wanted if (folder := self._tools.naming.day_folder(place))}
        if not in_folder:
            return {}
        self._see_to(shelf, bucket, dict.fromkeys(in_folder.values()))
        names = {(folder, place.reference): place for place, folder in in_folder.items()}
        with db.transaction() as connection:
            found = folders_dao.look_up(connection, self._tools.store, bucket, names)
        known = {place: found[name] for name, place in names.items() if name in found}
        now, limit = clock.now(), self._tools.settings.step_budget_seconds
        return {
            place.prefix: tuple(StoredFile(bucket, place.prefix + rest, None) for rest in of_place.rests)
            for place, of_place in known.items()
            if all(
                is_proof(of_place, letter.updated_at, self._written_by[letter.id], now, limit)
                for letter in wanted[place]
            )
        }

    def forget(self, connection: Connection, files: Iterable[StoredFile]) -> None:
        """Files that are confirmed gone leave the index in the step's own transaction, like the step's count."""
        bucket = self._tools.naming.buckets.letters
        keys = [key for file in files if file.bucket == bucket and (key := dated_key(file.key))]
        if keys:
            names = [(key.folder, key.reference, key.rest) for key in keys]
            folders_dao.forget(connection, self._tools.store, bucket, names)

    def _see_to(self, shelf: ObjectShelf, bucket: str, folders: Collection[str]) -> None:
        """Have every folder indexed that is worth it. Raises Stopped if that is not done within this step."""
        with db.transaction() as connection:
            known = folders_dao.find(connection, self._tools.store, bucket, folders)
        is_awaited = False
        for folder in folders:
            index = known.get(folder) or self._open(bucket, folder)
            if is_to_be_built(index):
                is_built = self._builder.go_on(shelf, bucket, index)
                self.is_news |= is_built
                is_awaited |= not is_built
        if is_awaited:
            raise Stopped(INDEX_AWAITED)

    def _open(self, bucket: str, folder: str) -> FolderIndex:
        worth_pages = self._worth_pages(folder)
        with db.transaction() as ahead:
            return folders_dao.open_index(
                ahead, self._tools.store, bucket, folder, worth_pages=worth_pages, now=clock.now()
            )

    def _worth_pages(self, folder: str) -> int:
        settings = self._tools.settings
        try:
            with db.transaction(read_only=True) as ahead:
                counts = folders_dao.letters_of_services(
                    ahead,
                    self._tools.naming.made_between(folder),
                    cutoff_of_days(ahead, settings, LETTER, self._night),
                    settings.retention_default_days,
                )
        except DBAPIError as error:  # too slow to count, say: each step lists for itself
            log.warning("folder-not-counted", folder=folder, error=type(error.orig).__name__)
            return 0
        return pages_worth_indexing([ServiceLetters(*of_one) for of_one in counts], settings.letters_per_step)


def empty_if_done(now: datetime) -> None:
    """Empty the index after the night. While a step that takes files out of it is under way, the next look does it."""
    try:
        with db.transaction(lock_seconds=SECONDS_TO_WAIT_FOR_STEPS) as connection:
            if stops.stopped(connection, stops.turn(turns_dao.FOLDERS)):
                return
            if folders_dao.is_to_be_emptied(connection, now - LONGEST_KEPT):
                folders_dao.empty(connection)
                log.info("folder-index-emptied")
    except OperationalError as error:
        if not isinstance(error.orig, errors.LockNotAvailable):
            raise
        log.info("folder-index-in-use")
