"""Letters. A row leaves `notifications` only after every file of it is known to be gone.

One set of locked rows: it is looked for in S3, what was found is deleted, and exactly the letters whose files are
gone move (test letters: go). The others stay and are recorded with the reason. Test letters go the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app.dao import deferred_dao, notifications_dao, runs_dao
from app.dao.deferred_dao import Whose
from app.dao.notifications_dao import LetterRow, Scope
from app.dao.runs_dao import Look
from app.db import db
from app.retention import missing_files
from app.retention.batch import let_go
from app.retention.report import StepReport
from app.retention.tools import Tools
from app.storage.client import Deadline
from app.storage.deletion import Deletion
from app.storage.lookup import Counts, Search
from app.storage.naming import AmbiguousReference, Letter, Place

log = structlog.get_logger(__name__)

NO_ANSWER = "NoAnswer"
SHARED_REFERENCE = "SharedReference"
STATEMENTS_TO_MOVE = 3
LEAST_SECONDS_TO_MOVE = 5.0
"""Files that are gone should not wait for another step because S3 used the budget up."""
IDS_PER_EVENT = 100


@dataclass(frozen=True)
class Attempt:
    """Whose step this is: the night counts missing files, the chain and step sign the intent.

    `cutoff` is the whole service's, where a slice ends earlier: until then deferred letters are tried again.
    """

    night: date
    chain_id: int | None
    step: int | None
    cutoff: datetime
    now: datetime


def remove(
    connection: Connection, tools: Tools, scope: Scope, limit: int, attempt: Attempt, deadline: Deadline
) -> StepReport:
    """One step: at most `limit` letters and their files. Does not commit."""
    rows = notifications_dao.choose_letters(connection, scope, limit)
    if not rows:
        return StepReport()
    report = StepReport(chosen=len(rows), first=rows[0].created_at, last=rows[-1].created_at)
    shared = _sharing_a_reference(connection, tools, rows)
    search = tools.files.find([_letter(row) for row in rows if row.id not in shared], deadline)
    search.refused |= dict.fromkeys(shared, SHARED_REFERENCE)
    covered = _covered(connection, tools, scope, rows, search)
    report.missing_files = missing_files.too_many(
        runs_dao.looks_of_night(connection, attempt.night),
        _looks(search.counts(exclude=covered)),
        runs_dao.accepted_buckets(connection, attempt.night),
        tools.settings,
    )
    if report.missing_files or search.stopped:
        report.stopped, report.complete = search.stopped, False
        return report
    intent = _write_intent(tools, scope, rows, search, attempt)
    deletion = tools.files.delete({id_: files for id_, files in search.files.items() if files}, deadline)
    report.stopped, report.files_deleted = deletion.stopped, deletion.deleted
    _hold_back(connection, tools, scope, search, deletion, attempt, report)
    gone = [row.id for row in rows if row.id in deletion.gone or search.files.get(row.id) == ()]
    if gone:
        db.limit_statements(connection, max(deadline.remaining() / STATEMENTS_TO_MOVE, LEAST_SECONDS_TO_MOVE))
        let_go(connection, scope.kind, notifications_dao.take_these(connection, gone), report)
        deferred_dao.forget_letters(connection, gone)
    without_file = [id_ for id_ in gone if id_ not in covered and search.files.get(id_) == ()]
    report.without_file = len(without_file)
    _say_without_file(tools, scope, without_file)
    report.looks = _looks(search.counts(exclude=covered | (search.files.keys() - set(gone))))
    report.complete = report.removed + report.deferred == report.chosen
    if intent is not None and not deletion.unknown:
        runs_dao.finish_intent(connection, intent)
    return report


def within_reach(connection: Connection, tools: Tools, scope: Scope, now: datetime) -> Scope:
    """The scope without the letters of buckets that are passed over for now."""
    broken = deferred_dao.broken_buckets(connection, scope.service_id, scope.kind, now)
    passed_over, only = tools.statuses_to_look_at(scope.kind, broken)
    return replace(scope, statuses_kept={*scope.statuses_kept, *passed_over}, statuses_only=only)


def _letter(row: LetterRow) -> Letter:
    return Letter(row.id, row.reference, row.created_at, row.status, row.key_type, row.postage)


def _sharing_a_reference(connection: Connection, tools: Tools, rows: Sequence[LetterRow]) -> set[UUID]:
    """Letters whose files are also those of a letter that is not among the rows and stays: they must stay, too."""
    others = notifications_dao.letters_sharing_references(connection, rows)
    if not others:
        return set()
    taken = {place for other in others for place in _places(tools, other)}
    return {row.id for row in rows if not taken.isdisjoint(_places(tools, row))}


def _places(tools: Tools, row: LetterRow) -> tuple[Place, ...]:
    try:
        return tools.naming.places(_letter(row))
    except AmbiguousReference:
        return ()


def _covered(
    connection: Connection, tools: Tools, scope: Scope, rows: Sequence[LetterRow], search: Search
) -> set[UUID]:
    """Letters without a file that lie in an unfinished intent: a killed worker took it, they are not missing."""
    intents = runs_dao.intents_of_service(connection, scope.service_id, scope.kind, tools.looked_in)
    return {
        row.id for row in rows if search.files.get(row.id) == () and missing_files.is_covered(row.created_at, intents)
    }


def _looks(counts: Counts) -> dict[str, Look]:
    return {bucket: Look(looked, counts.missing.get(bucket, 0)) for bucket, looked in counts.looked.items()}


def _say_without_file(tools: Tools, scope: Scope, ids: Sequence[UUID]) -> None:
    """A letter without a file is no error, but it can be found again; not on platforms that keep no files."""
    if tools.settings.missing_files_share is None:
        return
    for start in range(0, len(ids), IDS_PER_EVENT):
        some = [str(id_) for id_ in ids[start : start + IDS_PER_EVENT]]
        log.info("letters-without-file", service_id=str(scope.service_id), kind=scope.kind, ids=some)


def _write_intent(
    tools: Tools, scope: Scope, rows: Sequence[LetterRow], search: Search, attempt: Attempt
) -> int | None:
    """In a commit of its own, before the first file goes. Only over letters whose files were found."""
    found = [row.created_at for row in rows if search.files.get(row.id)]
    if not found:
        return None
    with db.transaction() as ahead:
        return runs_dao.write_intent(
            ahead,
            chain_id=attempt.chain_id,
            step=attempt.step,
            service_id=scope.service_id,
            kind=scope.kind,
            looked_in=tools.looked_in,
            from_created_at=found[0],
            to_created_at=found[-1],
            now=attempt.now,
        )


def _hold_back(
    connection: Connection,
    tools: Tools,
    scope: Scope,
    search: Search,
    deletion: Deletion,
    attempt: Attempt,
    report: StepReport,
) -> None:
    """Record letters and buckets that could not be dealt with, and forget buckets that have answered."""
    reasons = {**search.refused, **deletion.failed}
    if not deletion.stopped:
        reasons |= dict.fromkeys(deletion.unknown, NO_ANSWER)
    broken = {**search.broken, **deletion.broken}
    answered = {bucket for buckets in search.buckets_of.values() for bucket in buckets} - broken.keys()
    deferred_dao.mend_buckets(connection, scope.service_id, scope.kind, answered)
    whose = Whose(scope.service_id, scope.kind, attempt.cutoff)
    first_seconds = tools.settings.deferral_first_minutes * 60
    report.deferred, report.broken = len(reasons), len(broken)
    if reasons:
        deferred_dao.defer_letters(
            connection,
            whose,
            reasons,
            now=attempt.now,
            first_seconds=first_seconds,
            attempts_before_person=tools.settings.deferral_attempts,
        )
    if broken:
        deferred_dao.defer_buckets(connection, whose, broken, now=attempt.now, first_seconds=first_seconds)
