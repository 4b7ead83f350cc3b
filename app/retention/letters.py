"""Letters. A row leaves `notifications` only after every file of it is known to be gone, and no file goes before the
database has accepted that its row may leave.

The second half of a letter batch; `letter_search` is the first. One transaction: lock the letters that are still as
they were when their files were looked for, prepare their removal, delete the files, and commit exactly the letters
whose files are confirmed gone. The others stay and are recorded with the reason. Test letters go the same way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Connection

from app.dao import deferred_dao, notifications_dao, runs_dao
from app.dao.deferred_dao import Reason, Whose
from app.dao.notifications_dao import LetterRow, Removal, Scope
from app.db import db
from app.engine.batch import Prepared, prepare
from app.observability import tracing
from app.retention import refused
from app.retention.letter_search import Attempt, Found, letter_of, looks
from app.retention.report import StepReport
from app.retention.tools import Tools
from app.storage.client import Deadline
from app.storage.deletion import Deletion
from app.storage.folders import FolderUnknown
from app.storage.naming import AmbiguousReference, Place

log = structlog.get_logger(__name__)

NO_ANSWER = "NoAnswer"
SHARED_REFERENCE = "SharedReference"
STATEMENTS_TO_MOVE = 3
LEAST_SECONDS_TO_MOVE = 5.0
"""Files that are gone should not wait for another step because S3 used the budget up."""
IDS_PER_EVENT = 100


@dataclass(frozen=True)
class Batch:
    """What a letter batch works with, in its own transaction."""

    connection: Connection
    tools: Tools
    scope: Scope
    attempt: Attempt
    found: Found
    deadline: Deadline


def remove(batch: Batch) -> StepReport:
    """Remove the letters whose files were found, or known not to be there. Does not commit."""
    found = batch.found
    rows = _lock(batch)
    report = StepReport(chosen=len(rows), index_is_news=found.index is not None and found.index.is_news)
    if rows:
        report.first, report.last = rows[0].created_at, rows[-1].created_at
    report.missing_files, report.stopped = found.missing, found.search.stopped
    if not found.may_go_on:
        report.complete = False
        if found.search.asked_for_files:
            _defer(batch, _failed_alone(batch, rows, report), report)
        return report
    if not rows:
        return report
    shared = _sharing_a_reference(batch, rows)
    answered = [row.id for row in rows if row.id in found.search.files and row.id not in shared]
    prepared = _prepare(batch, answered)
    deletion = _delete_files(batch, prepared, report)
    gone = _keep_confirmed(batch, prepared, deletion)
    _hold_back(batch, rows, shared, prepared, deletion, report)
    _record(batch, gone, deletion, report)
    report.count(batch.scope.kind, 0 if prepared is None else prepared.removed)
    report.complete = report.removed + report.deferred == report.chosen
    return report


def _lock(batch: Batch) -> list[LetterRow]:
    """The letters that are as they were, locked, and still past the cut-off that counts now.

    Without those that another step has held back meanwhile: some of the files that were found may be gone.
    """
    found = batch.found
    if not found.candidates:
        return []
    rows = notifications_dao.lock_letters(batch.connection, found.candidates)
    attempts = deferred_dao.attempts(batch.connection, [row.id for row in rows])
    return [
        row
        for row in rows
        if row.created_at < batch.scope.created_before and attempts.get(row.id) == found.attempts.get(row.id)
    ]


def _prepare(batch: Batch, ids: Sequence[UUID]) -> Prepared | None:
    """Have the database accept the removal of these letters; None if there are none."""
    if not ids:
        return None
    connection, scope = batch.connection, batch.scope
    seconds = max(batch.deadline.remaining() / STATEMENTS_TO_MOVE, LEAST_SECONDS_TO_MOVE)
    db.limit_statements(connection, seconds)
    with tracing.part("prepare"):
        taken = notifications_dao.take_these(connection, ids)
        if not taken.rows:
            return None
        removal = Removal(connection, taken, scope.kind)
        prepared = prepare(connection, removal, is_time_up=lambda: batch.deadline.remaining() < seconds)
    _record_looks(batch, prepared)
    return prepared


def _delete_files(batch: Batch, prepared: Prepared | None, report: StepReport) -> Deletion:
    """Delete the files of the letters that the database has let go."""
    files = batch.found.search.files
    accepted = [] if prepared is None else prepared.accepted_ids()
    with tracing.part("delete files"):
        deletion = batch.tools.files.delete({id_: files[id_] for id_ in accepted if files[id_]}, batch.deadline)
    report.stopped, report.files_deleted = deletion.stopped, deletion.deleted
    return deletion


def _keep_confirmed(batch: Batch, prepared: Prepared | None, deletion: Deletion) -> set[UUID]:
    """Of the prepared letters, those that have no file any more. The others are taken out of the preparation."""
    if prepared is None:
        return set()
    files = batch.found.search.files
    accepted = prepared.accepted_ids()
    gone = [id_ for id_ in accepted if id_ in deletion.gone or not files[id_]]
    if len(gone) < len(accepted):
        with tracing.part("prepare again"):
            prepared.keep_only(gone)
        _record_looks(batch, prepared)  # the first record was undone with the preparation
    return set(gone)


def _record_looks(batch: Batch, prepared: Prepared) -> None:
    """Count the prepared letters as looked for. Before their files go: the database can refuse this, too."""
    found = batch.found
    others = found.search.files.keys() - set(prepared.accepted_ids())
    counted = looks(found.search.counts(exclude=found.covered | others))
    runs_dao.record_looks(batch.connection, batch.attempt.night, counted)


def _record(batch: Batch, gone: set[UUID], deletion: Deletion, report: StepReport) -> None:
    """What the step's own tables say of the letters that are gone."""
    connection, found = batch.connection, batch.found
    if found.index is not None:
        found.index.forget(connection, deletion.files_gone)
    if were_held_back := gone & found.attempts.keys():
        deferred_dao.forget_rows(connection, list(were_held_back))
    without_file = [id_ for id_ in gone if id_ not in found.covered and not found.search.files[id_]]
    report.without_file = len(without_file)
    _say_without_file(batch.tools, batch.scope, without_file)
    if found.intent is not None and not deletion.unknown:
        runs_dao.finish_intent(connection, found.intent)


def _sharing_a_reference(batch: Batch, rows: Sequence[LetterRow]) -> set[UUID]:
    """Letters whose files are also those of a letter that is not among the rows and stays: they must stay, too."""
    others = notifications_dao.letters_sharing_references(batch.connection, rows)
    if not others:
        return set()
    places = [(other.reference, _places(batch.tools, other)) for other in others]
    taken = {place for _, found in places for place in found or ()}
    somewhere = {reference.upper() for reference, found in places if reference and found is None}
    return {
        row.id
        for row in rows
        if (row.reference or "").upper() in somewhere or not taken.isdisjoint(_places(batch.tools, row) or ())
    }


def _places(tools: Tools, row: LetterRow) -> tuple[Place, ...] | None:
    """Where its files can be; None if that is anywhere."""
    try:
        return tools.naming.places(letter_of(row))
    except AmbiguousReference:
        return ()
    except FolderUnknown:
        return None


def _say_without_file(tools: Tools, scope: Scope, ids: Sequence[UUID]) -> None:
    """A letter without a file is no error, but it can be found again; not on platforms that keep no files."""
    if tools.settings.missing_files_share is None:
        return
    for start in range(0, len(ids), IDS_PER_EVENT):
        some = [str(id_) for id_ in ids[start : start + IDS_PER_EVENT]]
        log.info("letters-without-file", service_id=str(scope.service_id), kind=scope.kind, ids=some)


def _hold_back(
    batch: Batch,
    rows: Sequence[LetterRow],
    shared: Iterable[UUID],
    prepared: Prepared | None,
    deletion: Deletion,
    report: StepReport,
) -> None:
    """Record letters and buckets that could not be dealt with; buckets that have answered are due."""
    connection, scope, search, now = batch.connection, batch.scope, batch.found.search, batch.attempt.now
    locked = {row.id for row in rows}
    reasons = {id_: Reason(code) for id_, code in search.refused.items() if id_ in locked}
    reasons |= {id_: Reason(code) for id_, code in deletion.failed.items()}
    reasons |= dict.fromkeys(shared, Reason(SHARED_REFERENCE))
    if not deletion.stopped:
        reasons |= dict.fromkeys(deletion.unknown, Reason(NO_ANSWER))
    elif not deletion.deleted and not reasons:
        reasons = dict(_failed_alone(batch, rows, report))
    if prepared is not None:
        reasons |= refused.reasons(connection, prepared, report)
    broken = {**search.broken, **deletion.broken}
    answered = {bucket for buckets in search.buckets_of.values() for bucket in buckets} - broken.keys()
    if scope.passes_over_buckets:
        deferred_dao.buckets_answered(connection, scope.service_id, scope.kind, answered, now)
    _defer(batch, reasons, report)
    report.broken = len(broken)
    report.failures.update(broken.values())
    if broken:
        first_seconds = batch.tools.settings.deferral_first_minutes * 60
        deferred_dao.defer_buckets(connection, _whose(batch), broken, now=now, first_seconds=first_seconds)


def _failed_alone(batch: Batch, rows: Sequence[LetterRow], report: StepReport) -> Mapping[UUID, Reason]:
    """S3 failed at files of the rows: if it is a single row, and once too often, that one and the reason."""
    if len(batch.found.candidates) > 1 or not rows or report.stopped is None:
        return {}
    letter = rows[0].id
    alone = batch.attempt.alone.failed(letter)
    report.deferred_alone = alone.is_too_often or deferred_dao.is_known(batch.connection, letter)
    if report.deferred_alone:
        return {letter: Reason(report.stopped)}
    report.alone = alone
    return {}


def _defer(batch: Batch, reasons: Mapping[UUID, Reason], report: StepReport) -> None:
    """Record letters that stay, each with its reason."""
    refused.hold_back(batch.connection, batch.tools.settings, _whose(batch), reasons, batch.attempt.now, report)


def _whose(batch: Batch) -> Whose:
    return Whose(batch.scope.service_id, batch.scope.notification_type, batch.scope.kind, batch.attempt.cutoff)
