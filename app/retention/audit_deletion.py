"""Deletes files without a row: only those, only after another look, a page's at once.

Each bulk is written ahead in a commit of its own. A live row that has come in the meantime, whatever its type, keeps
every file of its reference; so does a hold: a file whose service nobody knows stays while any service is on hold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection

from app.dao import audit_dao
from app.dao.audit_dao import Audit
from app.db import db
from app.engine import stops
from app.models.types import LETTER
from app.retention.audit_progress import Finding, Page, Stand, Work, advance, lock
from app.state import asked
from app.state.findings import policy_of
from app.storage.deletion import Deletion
from app.storage.errors import Stopped
from app.storage.files import StoredFile
from app.storage.recognition import recognise

log = structlog.get_logger(__name__)


class PipelinePaused(RuntimeError):
    """The pipeline is paused, so that nothing may be deleted. Go on when it is not: flask retention audit --resume"""


def delete(audit: Audit, stand: Stand, page: Page, work: Work) -> Audit:
    """Delete what the page has without a row, and advance. Raises Stopped after what was confirmed is written down.

    Then the page counts as not read: only what went counts, and the rest is found again. Raises PolicyBlocked where
    rows may be hidden, say, whose files would look like nobody's.
    """
    with db.transaction() as ahead:
        going = _may_go(ahead, audit, page.without_row, work)
        record = _write_ahead(ahead, audit, going, work)
    with db.transaction(idle_seconds=work.tools.settings.lease_seconds) as connection:
        going = _may_go(connection, audit, going.values(), work)
        deletion = work.tools.files.delete(_files(going), work.deadline) if going else Deletion()
        gone = {id_ for id_ in deletion.gone if id_ in going}
        if record is not None:
            reasons = [*deletion.failed.values(), *deletion.broken.values(), *filter(None, [deletion.stopped])]
            code = reasons[0] if reasons else None
            audit_dao.record_deletion(connection, record, len(gone), len(going) - len(gone), code)
            _say(audit, stand, len(gone), len(going) - len(gone), code)
        left = [finding for finding in page.findings if finding not in {going[id_] for id_ in gone}]
        if deletion.stopped:
            only_gone, where = Page(keys=len(gone)), Stand("files", stand.place, audit.position)
            audit = advance(connection, audit, work, where, only_gone.counts(deleted=len(gone)))
        else:
            audit_dao.see_letters(connection, page.letters)
            counts = replace(page, findings=left).counts(deleted=len(gone))
            audit = advance(connection, audit, work, stand, counts, left)
            work.tell(left)
    if deletion.stopped:
        raise Stopped(deletion.stopped)
    return audit


def _may_go(connection: Connection, audit: Audit, orphans: Iterable[Finding], work: Work) -> dict[UUID, Finding]:
    """Those that may be deleted until the commit, each under an id for its deletion. Raises as `delete` and
    `_not_held` do.
    """
    going = _still_without_row(connection, _not_held(connection, audit, list(orphans)), work)
    if going:
        asked.require_anew(connection, policy_of(LETTER, is_test=False))
    return going


def _not_held(connection: Connection, audit: Audit, orphans: Sequence[Finding]) -> list[Finding]:
    """Those whose service is not on hold, and stays so until the commit. Raises PipelinePaused, and Overtaken."""
    standing = stops.standing(connection, partial(lock, audit=audit))
    if standing.is_paused:
        raise PipelinePaused(PipelinePaused.__doc__)
    return [
        orphan
        for orphan in orphans
        if not (orphan.service_id in standing.services if orphan.service_id else standing.services)
    ]


def _still_without_row(connection: Connection, orphans: Iterable[Finding], work: Work) -> dict[UUID, Finding]:
    """Those whose reference no live row has by now, each under an id for its deletion."""
    named = {}
    for orphan in orphans:
        if orphan.stored and (name := recognise(work.tools.naming, orphan.stored.bucket, orphan.stored.key)):
            named[orphan] = name.reference
    live = audit_dao.live_rows(connection, set(named.values())) if named else {}
    return {uuid4(): orphan for orphan, reference in named.items() if reference not in live}


def _files(going: Mapping[UUID, Finding]) -> dict[UUID, Sequence[StoredFile]]:
    return {id_: orphan.stored.files for id_, orphan in going.items() if orphan.stored}


def _write_ahead(connection: Connection, audit: Audit, going: Mapping[UUID, Finding], work: Work) -> int | None:
    if not going:
        return None
    bucket = next(iter(_files(going).values()))[0].bucket
    return audit_dao.write_deletion_ahead(connection, audit, bucket, len(going), work.now)


def _say(audit: Audit, stand: Stand, files: int, refused: int, code: str | None) -> None:
    log.warning(
        "audit-files-deleted",
        audit=audit.id,
        by=audit.started_by,
        bucket=stand.place,
        files=files,
        refused=refused,
        code=code,
    )
