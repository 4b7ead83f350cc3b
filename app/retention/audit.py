"""Audits: the letter buckets compared with the tables. An audit changes nothing but its own records, unless it was
begun to delete; then it removes files without a row, each only after another look, and nothing else.

An audit is a row. Each page of files or of rows is a commit with what it added and how far the audit has come: a
process that is killed costs a page, and nothing counts twice. Who finds the row's step number changed has been
overtaken. First come the buckets, key by key, then the letters, status by status.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from app import clock
from app.dao import audit_dao
from app.dao.audit_dao import Audit
from app.db import db
from app.errors import BadArgument
from app.refusals import refusal_of
from app.retention import audit_files, audit_rows
from app.retention.audit_deletion import PipelinePaused
from app.retention.audit_progress import Overtaken, Sink, Work, nobody
from app.retention.tools import tools
from app.state.asked import PolicyBlocked
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, Stopped

__all__ = [
    "Audit",
    "AuditUnderWay",
    "NothingToAudit",
    "Overtaken",
    "PipelinePaused",
    "Turn",
    "begin",
    "due",
    "finish",
    "go_on",
    "last_finished",
    "under_way",
]

log = structlog.get_logger(__name__)

STANDS_STILL_AFTER = timedelta(minutes=10)
"""Longer than any turn: nobody is at it any more."""
FAILURES_BEFORE_ABANDONED = 3
TOLERANCE = timedelta(hours=12)
"""The daily look for whether an audit is due does not come at the very same time."""
SCHEDULE = "schedule"


class NothingToAudit(RuntimeError):
    """Letters have no files, so that there is no bucket to compare with the tables."""


class AuditUnderWay(RuntimeError):
    """Another audit is under way, and its process is alive."""


@dataclass(frozen=True)
class Turn:
    """What a turn of an audit came to. `stopped` is why S3 could not be asked further: SlowDown or Unreachable."""

    audit: Audit
    stopped: str | None = None


def begin(
    started_by: str,
    *,
    deletes: bool = False,
    bucket: str | None = None,
    since: date | None = None,
    until: date | None = None,
) -> Audit:
    """Begin an audit: of all letter buckets, of one, or of the letters' day folders from `since` to `until`.

    One that stands still is abandoned. Raises BadArgument, AuditUnderWay while another one goes on, and NothingToAudit.
    """
    settings = tools().settings
    if not settings.letters_have_files:
        raise NothingToAudit(f"There is nothing to audit: LETTER_FILES is {settings.letter_files}.")
    _check_scope(bucket, since, until)
    now = clock.now()
    with db.transaction() as connection:
        db.require_clock(connection)
        audit_dao.hold_off_others(connection)
        other = audit_dao.under_way(connection)
        if other is not None and now - other.advanced_at < STANDS_STILL_AFTER:
            raise AuditUnderWay(
                f"audit {other.id} is under way, begun by {other.started_by}. Wait for it, or go on with it if its "
                "process is gone: flask retention audit --resume"
            )
        audit = audit_dao.begin(
            connection, now=now, started_by=started_by, deletes=deletes, only_bucket=bucket, since=since, until=until
        )
    log.info("audit-begun", audit=audit.id, by=started_by, deletes=deletes)
    return audit


def _check_scope(bucket: str | None, since: date | None, until: date | None) -> None:
    buckets = tools().naming.buckets
    known = audit_files.buckets_of(buckets)
    if bucket is not None and bucket not in known:
        raise BadArgument(f"{{}} is not a letter bucket; those are {', '.join(known)}", bucket)
    for day in (since, until):
        if day is not None:
            clock.as_day(day)
    if since and until and since > until:
        raise BadArgument(f"the folders from {since} to {until} are none; give the earlier date first")
    if (since or until) and bucket not in (None, buckets.letters):
        raise BadArgument("only {} has folders by day", buckets.letters)


def under_way() -> Audit | None:
    """The audit that has not ended yet, whether or not somebody is at it."""
    with db.transaction(read_only=True) as connection:
        return audit_dao.under_way(connection)


def last_finished() -> Audit | None:
    """The audit that ended last."""
    with db.transaction(read_only=True) as connection:
        return audit_dao.last_finished(connection)


def due(now: datetime) -> Audit | None:
    """The audit that the schedule should go on with: one that stands still, or a new one if it is time. Else None."""
    every = tools().settings.audit_every_days
    if not every or not tools().settings.letters_have_files:
        return None
    with db.transaction(read_only=True) as connection:
        current, last = audit_dao.under_way(connection), audit_dao.last_started_at(connection)
    if current is not None and not current.deletes:
        return current if now - current.advanced_at >= STANDS_STILL_AFTER else None
    if current is not None and now - current.advanced_at < timedelta(days=1):
        return None  # somebody's deletion, to be gone on with by them
    if last is not None and now - last < timedelta(days=every) - TOLERANCE:
        return None
    return begin(SCHEDULE)


def go_on(audit: Audit, tell: Sink = nobody, watch: Callable[[Audit], None] | None = None) -> Turn:
    """Work on an audit for as long as a step may take. It has ended when `finished_at` is set.

    `tell` gets every finding, keys included; `watch` gets the audit after each page. Raises Overtaken when another
    process has gone on with it; PipelinePaused and PolicyBlocked when it is to delete.
    """
    work = Work(tools(), Deadline(tools().settings.step_budget_seconds), clock.now(), tell, watch)
    try:
        while audit.finished_at is None:
            audit = audit_files.go_on(audit, work) if audit.phase == "files" else audit_rows.go_on(audit, work)
    except Stopped as stop:
        reason = None if stop.reason == OUT_OF_TIME else stop.reason
        return Turn(_as_it_is(audit), reason)
    except (Overtaken, PipelinePaused, PolicyBlocked, BadArgument):
        raise
    except Exception as error:
        _note_failure(audit, error)
        raise
    log.info("audit-finished", **audit.as_json())
    return Turn(audit)


def _note_failure(audit: Audit, error: Exception) -> None:
    """An audit that fails again and again in the same way keeps no other from beginning."""
    failure = str(refusal_of(error)) if isinstance(error, DBAPIError) else type(error).__name__
    with suppress(DBAPIError), db.transaction() as connection:  # the database may be what failed
        noted = audit_dao.fail(connection, audit, failure, FAILURES_BEFORE_ABANDONED)
        if noted is not None and noted.abandoned:
            log.error("audit-abandoned", audit=audit.id, failures=noted.failures, error=failure)


def finish(audit: Audit) -> Audit:
    """Go on until it has ended, for a shell. Raises Stopped when S3 can't be asked any further."""
    while audit.finished_at is None:
        turn = go_on(audit)
        if turn.stopped:
            raise Stopped(turn.stopped)
        audit = turn.audit
    return audit


def _as_it_is(audit: Audit) -> Audit:
    current = under_way()
    if current is None or current.id != audit.id:
        raise Overtaken(f"audit {audit.id} was abandoned")
    return current
