"""Rows that the database refuses, one by one or all of a batch, and what is recorded of them."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from app.config import Settings
from app.dao import deferred_dao
from app.dao.deferred_dao import Reason, Whose
from app.engine.batch import Prepared
from app.refusals import Refusal
from app.retention.report import StepReport


def reasons(connection: Connection, prepared: Prepared, report: StepReport) -> Mapping[UUID, Reason]:
    """Why rows stay that the database refused one by one; the report says so, and why it refuses every row, if it does.

    Rows that are tried again after they were refused before are refused one by one, though there be no others in the
    batch: nothing follows from them for rows that were never tried.
    """
    refused: Mapping[UUID, Refusal] = prepared.refused
    report.database_refuses = prepared.everything
    if prepared.everything is not None and not set(prepared.undecided) - deferred_dao.refused_before(
        connection, prepared.undecided
    ):
        refused, report.database_refuses = dict.fromkeys(prepared.undecided, prepared.everything), None
    report.refused_rows = len(refused)
    return {id_: Reason.of(refusal) for id_, refusal in refused.items()}


def hold_back(
    connection: Connection,
    settings: Settings,
    whose: Whose,
    held: Mapping[UUID, Reason],
    now: datetime,
    report: StepReport,
) -> None:
    """Record rows that stay, each with its reason, until their next attempt. `now` is aware."""
    report.deferred = len(held)
    report.failures.update(reason.code for reason in held.values())
    if not held:
        return
    deferred_dao.defer_rows(
        connection,
        whose,
        held,
        now=now,
        first_seconds=settings.deferral_first_minutes * 60,
        attempts_before_person=settings.deferral_attempts,
    )
    if report.refused_rows:
        report.refused_in_all = deferred_dao.count_refused(connection, whose)
