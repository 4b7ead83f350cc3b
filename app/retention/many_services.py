"""Emails and text messages of all services that keep them equally long, in one batch; and their test rows.

A service that is not like the others never holds them up. It is handed over to a chain of its own, which knows what to
do: rows that the database refuses, rows that somebody has locked, a hold that may be lifted, a batch that fails again
and again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection

from app.config import Settings
from app.dao import many_services_dao
from app.dao.deferred_dao import Whose
from app.dao.many_services_dao import ManyServices
from app.dao.notifications_dao import Removal
from app.engine.batch import Prepared, prepare
from app.engine.isolation import MOST_REFUSED
from app.refusals import Refusal
from app.retention import cutoffs, refused
from app.retention.cutoffs import date_to_count_from
from app.retention.report import StepReport

SERVICES_AT_ONCE = 5_000
ALL_REFUSED_IN_A_ROW = 4
"""After so many batches of which every sampled row was refused, the next such one counts for all services."""
SERVICES_HANDED_OVER_AT_ONCE = 20
"""Where a batch failed several times, so many services get chains of their own, and the others go on."""


@dataclass(frozen=True)
class Many:
    """Which services a chain is for, those that keep the type for `days`, and up to which of them it is done.

    `hand_over`: the next ones with anything to do get chains of their own instead of a batch. `refusals` counts the
    batches before this one, in a row, of which the database refused every row that was tried.
    """

    days: int
    first: UUID | None = None
    last: UUID | None = None
    after: UUID | None = None
    hand_over: bool = False
    refusals: int = 0


def scope_of(
    settings: Settings, many: Many, *, night: date, notification_type: str, kind: str, cutoff: datetime, now: datetime
) -> ManyServices:
    """The rows that may go by what the retention says now: before the earlier of the chain's cut-off and tonight's."""
    return ManyServices(
        notification_type=notification_type,
        kind=kind,
        days=many.days,
        default_days=settings.retention_default_days,
        cutoff=min(cutoff, cutoffs.cutoff(date_to_count_from(now, settings), many.days, settings)),
        night=night,
        chain_cutoff=cutoff,
        now=now,
        after=many.after,
        last=many.last,
    )


def remove(
    connection: Connection,
    settings: Settings,
    scope: ManyServices,
    many: Many,
    limit: int,
    is_time_up: Callable[[], bool],
) -> StepReport:
    """One step: move at most `limit` real rows to history, or delete as many test rows. Does not commit.

    Rows that the database refuses are deferred. The report says which services need chains of their own, and after
    which service the next step begins.
    """
    if many.hand_over:
        return _hand_over_next(connection, scope, many)
    batch = many_services_dao.take(connection, scope, SERVICES_AT_ONCE, limit)
    report = StepReport(chosen=batch.rows, first=batch.first, last=batch.last)
    if batch.rows == limit:
        # The last service may have more rows: it begins the next batch.
        report.after_service = many_services_dao.just_before(many_services_dao.last_in_batch(connection))
        report.services_left = True
    else:
        services, report.after_service = many_services_dao.next_services(connection, scope, SERVICES_AT_ONCE)
        report.services_left = services == SERVICES_AT_ONCE
    if batch.rows:
        prepared = prepare(connection, Removal(connection, batch, scope.kind), is_time_up=is_time_up)
        if prepared.everything is not None:
            return _all_refused(connection, many, prepared, prepared.everything, report)
        _tell(connection, settings, scope, prepared, report)
    if report.services_left:
        return report
    return _finish(connection, scope, many, report)


def _all_refused(
    connection: Connection, many: Many, prepared: Prepared, why: Refusal, report: StepReport
) -> StepReport:
    """The first, the middle and the last row were refused for one reason: their services go on by themselves.

    The others are tried without them, unless that has happened several times in a row: then it is everything.
    """
    if many.refusals >= ALL_REFUSED_IN_A_ROW:
        report.database_refuses = why
        return report
    ids = prepared.undecided
    report.handed_over = many_services_dao.services_of(connection, [ids[0], ids[len(ids) // 2], ids[-1]])
    report.is_all_refused = len(report.handed_over) > 1
    report.after_service, report.services_left = many.after, True
    return report


def _tell(
    connection: Connection, settings: Settings, scope: ManyServices, prepared: Prepared, report: StepReport
) -> None:
    """What went, whose it was, and whose rows the database refuses."""
    report.count(scope.kind, prepared.removed)
    if prepared.removed:
        report.removed_of = many_services_dao.count_by_service(connection)
    held = refused.reasons(connection, prepared, report)
    for service_id, ids in many_services_dao.by_service(connection, list(held)).items():
        whose = Whose(service_id, scope.notification_type, scope.kind, scope.chain_cutoff)
        of_service = StepReport(refused_rows=len(ids))
        refused.hold_back(connection, settings, whose, {id_: held[id_] for id_ in ids}, scope.now, of_service)
        report.deferred += of_service.deferred
        report.failures += of_service.failures
        if of_service.refused_in_all > MOST_REFUSED:
            report.handed_over.add(service_id)
    report.handed_over |= many_services_dao.services_of(connection, prepared.undecided)


def _hand_over_next(connection: Connection, scope: ManyServices, many: Many) -> StepReport:
    services = many_services_dao.with_rows(connection, scope, SERVICES_HANDED_OVER_AT_ONCE)
    if len(services) < SERVICES_HANDED_OVER_AT_ONCE:
        return _finish(connection, scope, many, StepReport())
    return StepReport(handed_over=set(services), after_service=services[-1], services_left=True)


def _finish(connection: Connection, scope: ManyServices, many: Many, report: StepReport) -> StepReport:
    """The last service was reached. Whoever still has rows past their time is on hold, or has them locked, or referred
    to by rows of other tables: a chain of its own says so, and goes on when that changes.
    """
    whole = replace(scope, after=many.first)
    report.handed_over |= set(many_services_dao.with_rows(connection, whole, all_that_stays=True))
    report.eligible_left = False
    return report
