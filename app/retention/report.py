"""What one step did and saw. What comes next is decided from this and nothing else."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from app.dao.runs_dao import Look
from app.retention.alone import NOBODY, Alone

INDEXING = "Indexing"
"""The step listed a part of a letters' folder for all services, and nothing else; it goes on at once."""
INDEX_AWAITED = "IndexAwaited"
"""Another step lists a letters' folder for all services; this one comes again when that is done."""


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
    """Why the chain must rest: "on-hold" or "paused"."""
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
    """Letters that this step held back, for the first time or again."""
    broken: int = 0
    """Buckets that this step found missing, or refusing everything."""
    first: datetime | None = None
    last: datetime | None = None
    """The least and the largest created_at chosen."""
    complete: bool = True
    """Whether every chosen row was dealt with, so that the next choice may begin at `last`."""

    eligible_left: bool | None = None
    """Whether an eligible row is left in the whole slice, locked by someone or not. None: the step did not look, since
    it found as many rows as it may take, or did not come so far."""
    not_final: int | None = None
    """Overdue letters that stay because they are not final; counted at a last look."""
    referred_to: dict[str, int] = field(default_factory=dict)
    """Overdue rows that stay because a row of this table refers to them; counted at a last look."""
    looks: dict[str, Look] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    """By code: letters that this step held back, and buckets that refused everything."""

    @property
    def removed(self) -> int:
        """Rows that left `notifications`."""
        return self.moved + self.deleted

    @property
    def outcome(self) -> str:
        """It in a word, for the record."""
        if self.missing_files:
            return "missing-files"
        stopped = self.resting or self.stopped or ("retention-refused" if self.refused else None)
        return stopped or ("removed" if self.removed else "nothing")
