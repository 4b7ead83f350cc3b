"""Emails, text messages, and letters that have no files: lock, copy to history, delete, and the counts must agree."""

from sqlalchemy import Connection

from app.dao import notifications_dao
from app.dao.notifications_dao import Scope
from app.retention.batch import let_go
from app.retention.report import StepReport


def remove(connection: Connection, scope: Scope, limit: int) -> StepReport:
    """One step: move at most `limit` real rows to history, or delete as many test rows. Does not commit."""
    batch = notifications_dao.take_messages(connection, scope, limit)
    report = StepReport(chosen=batch.rows, first=batch.first, last=batch.last)
    if batch.rows:
        let_go(connection, scope.kind, batch, report)
    return report
