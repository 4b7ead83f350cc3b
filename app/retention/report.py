"""What one step did and saw. What comes next is decided from this and nothing else."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from app.dao.notifications_dao import TEST
from app.refusals import Refusal
from app.retention.alone import NOBODY, Alone

INDEXING = "Indexing"
"""The step listed a part of a letters' folder for all services, and nothing else; it goes on at once."""
INDEX_AWAITED = "IndexAwaited"
"""Another step lists a letters' folder for all services; this one comes again when that is done."""
DATABASE_REFUSES = "database-refuses"
"""The database refuses every row, for one reason."""
ROWS_REFUSED = "rows-refused"
"""The database refuses too many single rows of the service and type."""


PRECONDITION = "precondition"
"""Something is not as it must be for this policy (`app.state`): the chain rests until it is, and goes on by itself."""


@dataclass(frozen=True)
class MissingFiles:
    """Too many letters of a bucket have no file, over the run and this step."""

    bucket: str
    looked: int
    missing: int


@dataclass
class StepReport:
    """Counts of rows and files, and why the step did not do more. Times are aware, in UTC."""

    resting: str | None = None
    """Why the chain must rest: "on-hold", "paused", or PRECONDITION by hand."""
    refused: str | None = None
    """Why the service is refused: its retention is zero or negative."""
    missing_files: MissingFiles | None = None
    stopped: str | None = None
    """Why S3 could not be asked further (SlowDown, Unreachable or OutOfTime), or INDEXING or INDEX_AWAITED."""
    alone: Alone = NOBODY
    """The only letter of the step, if S3 failed at its files and it is not deferred yet."""
    deferred_alone: bool = False
    """S3 failed at the only letter of the step once too often: it is deferred, and the chain is rid of it."""

    index_is_news: bool = False
    """The step made an end of the listing of a letters' folder, for which others may wait (INDEX_AWAITED)."""
    past_budget: bool = False
    """The step took longer than its budget."""

    chosen: int = 0
    moved: int = 0
    deleted: int = 0
    """Test rows deleted for good."""
    files_deleted: int = 0
    without_file: int = 0
    deferred: int = 0
    """Rows that this step held back, for the first time or again."""
    refused_rows: int = 0
    """Of these, the rows that the database refused."""
    refused_in_all: int = 0
    """Rows of the service, type and kind that it has refused and that are held back; counted when it refused some."""
    database_refuses: Refusal | None = None
    """Why the database refuses every row of the batch."""
    broken: int = 0
    """Buckets that this step found missing, or refusing everything."""
    first: datetime | None = None
    last: datetime | None = None
    """The least and the largest created_at chosen."""
    complete: bool = True
    """Whether every chosen row was dealt with, so that the next choice may begin at `last`."""

    removed_of: dict[UUID, int] = field(default_factory=dict)
    """Of a step over many services: how many rows of each went."""
    handed_over: set[UUID] = field(default_factory=set)
    """Services that need a chain of their own."""
    after_service: UUID | None = None
    """The service after which the next step begins."""
    services_left: bool = False
    """Whether there are services that this step did not come to."""
    is_all_refused: bool = False
    """Every row of the batch that was tried was refused for one reason; the services of these are handed over."""

    eligible_left: bool | None = None
    """Whether an eligible row is left in the whole slice, locked by someone or not. None: the step did not look, since
    it found as many rows as it may take, or did not come so far."""
    not_final: int | None = None
    """Overdue letters that stay because they are not final; counted at a last look."""
    referred_to: dict[str, int] = field(default_factory=dict)
    """Overdue rows that stay because a row of this table refers to them; counted at a last look."""
    failures: Counter[str] = field(default_factory=Counter)
    """By code: rows that this step held back, and buckets that refused everything."""

    def count(self, kind: str, removed: int) -> None:
        """Rows of a kind that left `notifications`: test rows for good, all others to history."""
        if kind == TEST:
            self.deleted = removed
        else:
            self.moved = removed

    @property
    def removed(self) -> int:
        """Rows that left `notifications`."""
        return self.moved + self.deleted

    @property
    def outcome(self) -> str:
        """It in a word, for the record."""
        if self.missing_files:
            return "missing-files"
        if self.database_refuses:
            return DATABASE_REFUSES
        stopped = self.resting or self.stopped or ("retention-refused" if self.refused else None)
        return stopped or ("removed" if self.removed else "nothing")
