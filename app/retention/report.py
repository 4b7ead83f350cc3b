"""What one step did and saw. What comes next is decided from this and nothing else."""

from dataclasses import dataclass, field
from datetime import datetime

from app.dao.runs_dao import Look


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
    """Why S3 could not be asked further: SlowDown, Unreachable or OutOfTime."""

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

    eligible_left: bool = False
    """Seen when nothing was removed: an eligible row is there, locked by someone or not."""
    not_final: int | None = None
    """Overdue letters that stay because they are not final; counted at a last look."""
    looks: dict[str, Look] = field(default_factory=dict)

    @property
    def removed(self) -> int:
        """Rows that left `notifications`."""
        return self.moved + self.deleted
