"""A batch lies locked in its temporary table: let it go."""

from sqlalchemy import Connection

from app.dao import notifications_dao
from app.dao.notifications_dao import TEST, Batch
from app.retention.report import StepReport


def let_go(connection: Connection, kind: str, batch: Batch, report: StepReport) -> None:
    """Move real rows to history, delete test rows for good. The rows deleted must be the rows taken."""
    if kind == TEST:
        report.deleted = notifications_dao.delete_batch(connection, batch)
        return
    notifications_dao.copy_batch_into_history(connection, batch)
    report.moved = notifications_dao.delete_batch(connection, batch)
