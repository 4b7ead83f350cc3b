"""The audit of the letter buckets, a stretch a message. It only reads: nobody deletes by schedule.

The audit is a row. A message that is lost costs at most a day; one that comes twice finds the step taken.
"""

from typing import Any

import structlog

from app import clock
from app.celery import celery
from app.celery.sending import send
from app.errors import BadArgument
from app.retention import audit
from app.retention.arguments import checked_number

log = structlog.get_logger(__name__)

SECONDS_BEFORE_S3_IS_ASKED_AGAIN = 300


@celery.task(name="audit-letter-files")
def audit_letter_files(audit_id: int | None = None, step: int | None = None) -> None:
    """Go on with an audit for a step's time, and send the next message. Without arguments: with what is due, if any."""
    try:
        found = audit.due(clock.now()) if audit_id is None else _current(audit_id, step)
        if found is None:
            return
        turn = audit.go_on(found)
    except (audit.AuditUnderWay, audit.Overtaken) as error:
        log.info("audit-left-to-another", why=type(error).__name__)
        return
    if turn.audit.finished_at is None:
        _send_next(turn)


def _current(audit_id: int, step: int | None) -> audit.Audit | None:
    """The audit, if it is still at that step and only reads."""
    wanted = (checked_number("audit", audit_id), checked_number("step", step))
    found = audit.under_way()
    if found is None or (found.id, found.step) != wanted:
        return None
    if found.deletes:
        raise BadArgument("an audit that deletes is gone on with by a person")
    return found


def _send_next(turn: audit.Turn) -> None:
    message: dict[str, Any] = {"kwargs": {"audit_id": turn.audit.id, "step": turn.audit.step}}
    if turn.stopped:
        message["countdown"] = SECONDS_BEFORE_S3_IS_ASKED_AGAIN
    send(audit_letter_files, "tomorrow's look", **message)
