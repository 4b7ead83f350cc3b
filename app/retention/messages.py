"""Emails, text messages, and letters that have no files: lock, copy to history, delete, and the counts must agree."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from app.config import Settings
from app.dao import notifications_dao
from app.dao.deferred_dao import Whose
from app.dao.notifications_dao import Removal, Scope
from app.engine.batch import prepare
from app.retention import refused
from app.retention.report import StepReport


def remove(
    connection: Connection,
    settings: Settings,
    scope: Scope,
    limit: int,
    cutoff: datetime,
    is_time_up: Callable[[], bool],
) -> StepReport:
    """One step: move at most `limit` real rows to history, or delete as many test rows. Does not commit.

    Rows that the database refuses are deferred; `cutoff` (aware) is what they are past.
    """
    batch = notifications_dao.take_messages(connection, scope, limit)
    report = StepReport(chosen=batch.rows, first=batch.first, last=batch.last)
    if not batch.rows:
        return report
    prepared = prepare(connection, Removal(connection, batch, scope.kind), is_time_up=is_time_up)
    report.count(scope.kind, prepared.removed)
    whose = Whose(scope.service_id, scope.notification_type, scope.kind, cutoff)
    held = refused.reasons(connection, prepared, report)
    refused.hold_back(connection, settings, whose, held, scope.asked_at, report)
    report.complete = report.removed + report.deferred == report.chosen
    return report
