"""The letters of an audit, status by status: each should have the file that the buckets showed, or show when asked.

A letter of which a file was seen costs nothing but its row. The others are looked for as a step would look, and then
looked at once more: one that a step holds, or that a killed step had begun with, is not missing anything.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from app.dao import audit_dao, platform_dao
from app.dao.audit_dao import Audit, AuditedRow, Counts
from app.db import db
from app.models.types import STATUSES
from app.retention.audit_files import buckets_to_read
from app.retention.audit_progress import (
    MIXED_CASE,
    WITHOUT_FILE,
    Finding,
    Stand,
    Work,
    advance,
    letter_of,
    places_of,
)
from app.storage.errors import UNREACHABLE, Stopped
from app.storage.naming import Place

LETTERS_PER_PAGE = 1_000
NO_STATUS = ""
MAY_HAVE_NONE = "technical-failure"
"""One that failed for technical reasons may never have had any file."""


def go_on(audit: Audit, work: Work) -> Audit:
    """Read the letters of the status that the audit has come to, to their end. Raises Stopped and Overtaken."""
    status = STATUSES[0] if audit.place is None else audit.place
    after = _parsed(audit.position)
    while True:
        with db.transaction(read_only=True) as connection:
            rows = audit_dao.letters_page(
                connection, status or None, after, _made_between(audit, work), LETTERS_PER_PAGE
            )
        if not rows:
            return _next_status(audit, status, work)
        audit, after = _look(audit, status, rows, work)
        work.show(audit)


def _next_status(audit: Audit, status: str, work: Work) -> Audit:
    with db.transaction() as connection:
        following = _following(status, platform_dao.read_anew(connection).known_statuses)
        stand = Stand("rows", None, finished=True) if following is None else Stand("rows", following)
        if stand.finished:
            audit_dao.forget_letters(connection)
        return advance(connection, audit, work, stand, Counts())


def _following(status: str, known: Sequence[str]) -> str | None:
    """Ours in their order, then the platform's own, then none at all. One that is not known any more keeps its turn."""
    others = sorted({status, *known} - {*STATUSES, NO_STATUS})
    turns = [*STATUSES, *others, NO_STATUS]
    return next(iter(turns[turns.index(status) + 1 :]), None)


def _made_between(audit: Audit, work: Work) -> tuple[datetime | None, datetime]:
    """Of the scope's folders; rows of the margin are not looked at yet."""
    naming = work.tools.naming
    first = naming.made_between(f"{audit.since}/")[0] if audit.since else None
    margin = work.now - timedelta(hours=work.tools.settings.audit_margin_hours)
    last = naming.made_between(f"{audit.until}/")[1] if audit.until else margin
    return first, min(last, margin)


def _look(audit: Audit, status: str, rows: Sequence[AuditedRow], work: Work) -> tuple[Audit, tuple[datetime, UUID]]:
    """Look for the files that were not seen; the page ends before the first letter that S3 left unanswered."""
    read = set(buckets_to_read(audit, work.tools.naming.buckets))
    due = [row for row in rows if _should_have_a_file(row, audit, status, read, work)]
    wanted = [row.letter for row in due if not row.seen]
    search = work.tools.files.find([letter_of(row) for row in wanted], work.deadline)
    answered = {*search.files, *search.refused, *search.passed_over}
    open_ = {row.id for row in wanted} - answered
    done = _until(rows, open_)
    if not done:
        raise Stopped(search.stopped or UNREACHABLE)
    ids = {row.letter.id for row in done}
    missing = [row.id for row in wanted if row.id in ids and search.files.get(row.id) == ()]
    last = done[-1].letter
    position = f"{last.created_at.isoformat()} {last.id}"
    with db.transaction() as connection:
        still = audit_dao.still_without_file(connection, missing, status) if missing else set()
        findings = [Finding(WITHOUT_FILE, notification_id=id_) for id_ in missing if id_ in still]
        mixed = [Finding(MIXED_CASE, notification_id=row.letter.id) for row in done if row.mixed]
        counts = Counts(
            rows_seen=sum(row.letter.id in ids for row in due),
            rows_without_file=len(findings),
            rows_in_mixed_case=len(mixed),
        )
        audit = advance(connection, audit, work, Stand("rows", status, position), counts, [*findings, *mixed])
        work.tell([*findings, *mixed])
    if search.stopped and open_:
        raise Stopped(search.stopped)
    return audit, (last.created_at, last.id)


def _should_have_a_file(row: AuditedRow, audit: Audit, status: str, read: set[str], work: Work) -> bool:
    """Final, not young, with a place in what the audit reads, or with no reference to have one by.

    What a status of the platform's own says of the file, nobody told us; of a letter without a status the file may be
    still to come. Where folders go by the date on which a letter was sent, one that was never sent need not have any.
    All of them are read, though, for references in mixed case.
    """
    settings = work.tools.settings
    if status not in STATUSES or status == MAY_HAVE_NONE or status not in settings.letter_statuses_final:
        return False
    if settings.missing_files_share is None:
        return False
    if work.tools.naming.by_date_sent and row.letter.sent_at is None:
        return False
    margin = work.now - timedelta(hours=work.tools.settings.audit_margin_hours)
    if (row.letter.updated_at or row.letter.created_at) >= margin:
        return False
    places = places_of(work, row.letter)
    return any(_is_in_scope(place, audit, read, work) for place in places) or not (row.letter.reference or "").strip()


def _is_in_scope(place: Place, audit: Audit, read: set[str], work: Work) -> bool:
    if place.bucket not in read:
        return False
    folder = work.tools.naming.day_folder(place)
    day = None if folder is None else date.fromisoformat(folder.removesuffix("/"))
    return day is None or (audit.since or day) <= day <= (audit.until or day)


def _until(rows: Sequence[AuditedRow], open_: set[UUID]) -> Sequence[AuditedRow]:
    first = next((at for at, row in enumerate(rows) if row.letter.id in open_), len(rows))
    return rows[:first]


def _parsed(position: str | None) -> tuple[datetime, UUID] | None:
    if position is None:
        return None
    made_at, id_ = position.split()
    return datetime.fromisoformat(made_at), UUID(id_)
