"""Letters. A row leaves `notifications` only after every file of it is known to be gone.

One set of locked rows: it is looked for in S3, what was found is deleted, and exactly the letters whose files are
gone move (test letters: go). The others stay and are recorded with the reason. Test letters go the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app.config import Settings
from app.dao import deferred_dao, notifications_dao, runs_dao
from app.dao.deferred_dao import Whose
from app.dao.notifications_dao import LetterRow, Scope
from app.dao.runs_dao import Look
from app.db import db
from app.observability import tracing
from app.retention import missing_files
from app.retention.alone import Alone
from app.retention.batch import let_go
from app.retention.folder_index import NightsIndex
from app.retention.report import StepReport
from app.retention.tools import Tools
from app.storage.client import Deadline
from app.storage.deletion import Deletion
from app.storage.folders import FolderUnknown
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

    `cutoff` is the whole service's, where a slice ends earlier: until then deferred letters are tried again. `alone` is
    what the chain remembers of its last step.
    """

    night: date
    chain_id: int | None
    step: int | None
    cutoff: datetime
    now: datetime
    alone: Alone


def remove(
    connection: Connection, tools: Tools, scope: Scope, limit: int, attempt: Attempt, deadline: Deadline
) -> StepReport:
    """One step: at most `limit` letters and their files. Does not commit."""
    rows = notifications_dao.choose_letters(connection, scope, limit)
    if not rows:
        return StepReport()
    report = StepReport(chosen=len(rows), first=rows[0].created_at, last=rows[-1].created_at)
    shared = _sharing_a_reference(connection, tools, rows)
    index = _index(connection, tools, attempt, deadline)
    with tracing.part("find files"):
        search = tools.files.find([letter_of(row) for row in rows if row.id not in shared], deadline, index)
    report.index_is_news = index is not None and index.is_news
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
        if search.asked_for_files:
            _defer(connection, tools, scope, attempt, _failed_alone(connection, rows, attempt, report), report)
        return report
    intent = _write_intent(tools, scope, rows, search, attempt)
    with tracing.part("delete files"):
        deletion = tools.files.delete({id_: files for id_, files in search.files.items() if files}, deadline)
    report.stopped, report.files_deleted = deletion.stopped, deletion.deleted
    if index is not None:
        index.forget(deletion.files_gone)
    _hold_back(connection, tools, scope, rows, search, deletion, attempt, report)
    gone = [row.id for row in rows if row.id in deletion.gone or search.files.get(row.id) == ()]
    if gone:
        db.limit_statements(connection, max(deadline.remaining() / STATEMENTS_TO_MOVE, LEAST_SECONDS_TO_MOVE))
        with tracing.part("move"):
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


def go_after_files(scope: Scope, settings: Settings) -> bool:
    """Whether these rows go after their files. Letters without files go as messages do."""
    return scope.is_letter and settings.letters_have_files


def within_reach(connection: Connection, tools: Tools, scope: Scope, now: datetime) -> Scope:
    """The scope without the letters of buckets that are passed over for now."""
    broken = deferred_dao.broken_buckets(connection, scope.service_id, scope.kind, now)
    passed_over, only = tools.statuses_to_look_at(scope.kind, broken)
    return replace(scope, statuses_kept={*scope.statuses_kept, *passed_over}, statuses_only=only)


def letter_of(row: LetterRow) -> Letter:
    """As `app.storage` wants it."""
    return Letter(
        row.id, row.reference, row.created_at, row.status, row.key_type, row.postage, row.updated_at, row.sent_at
    )


def _index(connection: Connection, tools: Tools, attempt: Attempt, deadline: Deadline) -> NightsIndex | None:
    """The night's index of folders. A person's one step has no night to share it with."""
    if attempt.chain_id is None or not tools.has_folder_index:
        return None
    return NightsIndex(connection, tools, attempt.night, deadline)


def _sharing_a_reference(connection: Connection, tools: Tools, rows: Sequence[LetterRow]) -> set[UUID]:
    """Letters whose files are also those of a letter that is not among the rows and stays: they must stay, too."""
    others = notifications_dao.letters_sharing_references(connection, rows)
    if not others:
        return set()
    places = [(other.reference, _places(tools, other)) for other in others]
    taken = {place for _, found in places for place in found or ()}
    somewhere = {reference.upper() for reference, found in places if reference and found is None}
    return {
        row.id
        for row in rows
        if (row.reference or "").upper() in somewhere or not taken.isdisjoint(_places(tools, row) or ())
    }


def _places(tools: Tools, row: LetterRow) -> tuple[Place, ...] | None:
    """Where its files can be; None if that is anywhere."""
    try:
        return tools.naming.places(letter_of(row))
    except AmbiguousReference:
        return ()
    except FolderUnknown:
        return None


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
    rows: Sequence[LetterRow],
    search: Search,
    deletion: Deletion,
    attempt: Attempt,
    report: StepReport,
) -> None:
    """Record letters and buckets that could not be dealt with; buckets that have answered are due."""
    reasons = {**search.refused, **deletion.failed}
    if not deletion.stopped:
        reasons |= dict.fromkeys(deletion.unknown, NO_ANSWER)
    elif not deletion.deleted and not reasons:
        reasons = _failed_alone(connection, rows, attempt, report)
    broken = {**search.broken, **deletion.broken}
    answered = {bucket for buckets in search.buckets_of.values() for bucket in buckets} - broken.keys()
    deferred_dao.mend_buckets(connection, scope.service_id, scope.kind, answered, attempt.now)
    _defer(connection, tools, scope, attempt, reasons, report)
    report.broken = len(broken)
    report.failures.update(broken.values())
    if broken:
        whose = Whose(scope.service_id, scope.kind, attempt.cutoff)
        first_seconds = tools.settings.deferral_first_minutes * 60
        deferred_dao.defer_buckets(connection, whose, broken, now=attempt.now, first_seconds=first_seconds)


def _failed_alone(
    connection: Connection, rows: Sequence[LetterRow], attempt: Attempt, report: StepReport
) -> dict[UUID, str]:
    """S3 failed at files of the rows: if it is a single row, and once too often, that one and the reason."""
    if len(rows) > 1 or report.stopped is None:
        return {}
    letter = rows[0].id
    alone = attempt.alone.failed(letter)
    report.deferred_alone = alone.is_too_often or deferred_dao.is_known(connection, letter)
    if report.deferred_alone:
        return {letter: report.stopped}
    report.alone = alone
    return {}


def _defer(
    connection: Connection,
    tools: Tools,
    scope: Scope,
    attempt: Attempt,
    reasons: Mapping[UUID, str],
    report: StepReport,
) -> None:
    """Record letters that stay, each with its reason."""
    report.deferred = len(reasons)
    report.failures.update(reasons.values())
    if reasons:
        deferred_dao.defer_letters(
            connection,
            Whose(scope.service_id, scope.kind, attempt.cutoff),
            reasons,
            now=attempt.now,
            first_seconds=tools.settings.deferral_first_minutes * 60,
            attempts_before_person=tools.settings.deferral_attempts,
        )
