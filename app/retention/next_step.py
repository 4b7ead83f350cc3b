"""What comes after a step: one pure function, first rule that applies. The table is in docs/architecture.md."""

from dataclasses import dataclass
from typing import Literal

from app.engine.isolation import MOST_REFUSED
from app.retention.report import DATABASE_REFUSES, INDEX_AWAITED, INDEXING, ROWS_REFUSED, StepReport

What = Literal["again", "look-again", "later", "rest", "end"]


@dataclass(frozen=True)
class Next:
    """`again`: the same task at once. `look-again`: once more, from the slice's own lower bound. `later`: the
    chain's row gets a due time, backing off. `rest`: until someone lifts the reason. `end`: the chain is done; the
    last of the real ones starts the test chain if there is something for it.
    """

    what: What
    reason: str | None = None
    may_start_test_chain: bool = False


def what_comes_next(stage: str, report: StepReport, *, moving_bound: bool) -> Next:
    """Decide from the chain's stage and the step's report.

    `moving_bound` says that the step did not choose from the whole slice, but from where the last one stopped.
    """
    if report.resting:
        return Next("rest", report.resting)
    if report.refused:
        return Next("end", "retention-refused")
    if report.missing_files:
        return Next("rest", "missing-files")
    if report.database_refuses:
        return Next("rest", DATABASE_REFUSES)
    if report.refused_rows and report.refused_in_all > MOST_REFUSED:
        return Next("rest", ROWS_REFUSED)
    if report.stopped == INDEXING or report.deferred_alone or report.services_left:
        return Next("again")
    if report.stopped:
        return Next("later", report.stopped)
    if report.eligible_left is False:
        return Next("end", may_start_test_chain=stage == "real")
    if report.removed or report.deferred or report.broken:
        return Next("again")
    return Next("look-again") if moving_bound else Next("later", "locked")


def next_batch_rows(report: StepReport, rows: int, most: int) -> int:
    """The next batch size: half after S3 or the budget stopped the step, else a quarter more, up to the setting.

    An eighth when S3 stopped it before anything went: if a single file is to blame, the search for it is short.
    """
    if report.stopped in (INDEXING, INDEX_AWAITED):
        return rows
    if report.stopped and not report.removed:
        return max(1, rows // 8)
    if report.stopped or report.past_budget:
        return max(1, rows // 2)
    return min(most, rows + max(1, rows // 4))
