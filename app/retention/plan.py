"""What tonight would do, without doing it: everything here runs in READ ONLY transactions, one for each type.

A type at which the database gives up does not take the others' counts with it.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.dao import archive_rows_dao, holds_dao, letter_statuses, overview_dao, services_dao
from app.dao.overview_dao import ServiceOverdue
from app.db import db
from app.refusals import in_words
from app.retention.nightly import count_without_service, find_overdue
from app.retention.readiness import check_database
from app.retention.tools import tools
from app.state import archive

COUNT_NO_FURTHER = 1_000_000
"""Exact for nearly every service, and seconds for the others."""
SECONDS_TO_COUNT = 60.0
SECONDS_TO_COUNT_EXACTLY = 600.0
"""What a statement may take. One counts a service's rows of a type; another finds all services with any."""
STATEMENTS_OF_A_TYPE = 10
"""As long as so many of these may all of a type take: where a statement for each service reads a table whole, since it
refers to notifications and has no index for that, there is no end to it.
"""

GIVEN_UP = (errors.QueryCanceled, errors.LockNotAvailable, errors.SerializationFailure)
"""The last is a replica's, which must go on with what the primary sends it."""


@dataclass
class TypePlan:
    """A type: its services with something overdue, and what is left alone and why.

    Of a service `rows` would move to history, `test_rows` would be deleted, and all others stay, counted by their
    reason: `not_final`, `unknown_status`, `deferred`, `referred_to`, `on_hold`. `stopped`: why not everything was
    counted; what was not is missing.
    """

    notification_type: str
    services: list[ServiceOverdue] = field(default_factory=list)
    rows_without_service: int = 0
    more_without_service: bool = False
    stopped: str | None = None


@dataclass
class ArchivePlan:
    """What leaves history: `rows` created before `before` (aware), the oldest at `oldest`. `more`: there may be more.

    Rows of services on hold, those that others refer to and those without a service are not among them. `stopped`: why
    they were not counted.
    """

    before: datetime
    rows: int = 0
    oldest: datetime | None = None
    more: bool = False
    stopped: str | None = None


@dataclass(frozen=True)
class Plan:
    """A night as it would go now; under a pause, as it would go without."""

    night: date
    counted_to: int | None
    """Of a service and type, and without service: no further than this, where `more` says that there may be more."""
    types: list[TypePlan]
    refused: list[services_dao.RefusedRetention]
    holds: list[tuple[str, str, str]]
    """Scope (a service's id, or `pipeline`: all is paused), reason, and who placed it."""
    archive: "ArchivePlan | None" = None
    """None: history is not archived."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`: dates and ids as strings are left to the encoder."""
        return asdict(self)


Watch = Callable[[TypePlan], None]
"""Gets a type whenever a service more of it is counted."""


def nobody(_planned: TypePlan) -> None:
    """For those who do not look on."""


def plan(night: date | None = None, *, exact: bool = False, watch: Watch = nobody) -> Plan:
    """Count what a night, tonight by default, would move, delete and leave per service and type. Writes nothing.

    Of each the oldest COUNT_NO_FURTHER rows, unless it must be exact. Raises DatabaseNotReady.
    """
    now, types = clock.now(), tools().notification_types
    night = night or clock.local_date(now, tools().settings.zone)
    at_most = None if exact else COUNT_NO_FURTHER
    check_database(to_plan=True)
    with db.transaction(read_only=True) as connection:
        holds = [(scope, reason, placed_by) for scope, reason, placed_by, _ in holds_dao.all_holds(connection)]
        refused = [one for one in services_dao.refused(connection) if one.notification_type in types]
    planned = [TypePlan(notification_type) for notification_type in types]
    for of_type in planned:
        _count(of_type, _Question(night, now, at_most, {scope for scope, *_ in holds}, watch))
    return Plan(night, at_most, planned, refused, holds, _count_history(now, at_most))


def _count_history(now: datetime, at_most: int | None) -> ArchivePlan | None:
    settings = tools().settings
    if not settings.archives_history:
        return None
    before = archive.closed_before(now, settings.archive_after_days, settings.archive_window_length)
    planned = ArchivePlan(before)
    seconds = SECONDS_TO_COUNT if at_most else SECONDS_TO_COUNT_EXACTLY
    try:
        with db.transaction(statement_seconds=seconds, read_only=True) as connection:
            of = archive_rows_dao.table(connection, settings.archive_columns_left_out)
            planned.rows, planned.oldest = archive_rows_dao.count_due(connection, of, before, at_most)
            planned.more = planned.rows == at_most
    except DBAPIError as error:
        if not isinstance(error.orig, GIVEN_UP):
            raise
        planned.stopped = in_words(error)
    return planned


@dataclass(frozen=True)
class _Question:
    """What is asked of every type."""

    night: date
    now: datetime
    at_most: int | None
    held: Collection[str]
    watch: Watch


def _count(planned: TypePlan, asked: _Question) -> None:
    """As far as the database lets it."""
    seconds = SECONDS_TO_COUNT if asked.at_most else SECONDS_TO_COUNT_EXACTLY
    end = time.monotonic() + seconds * STATEMENTS_OF_A_TYPE
    try:
        with db.transaction(statement_seconds=seconds, read_only=True) as connection:
            _count_services(connection, planned, asked, end)
            planned.rows_without_service = count_without_service(
                connection, tools().settings, planned.notification_type, asked.night, asked.at_most
            )
            planned.more_without_service = planned.rows_without_service == asked.at_most
    except DBAPIError as error:
        if not isinstance(error.orig, GIVEN_UP):
            raise
        planned.stopped = in_words(error)


def _count_services(connection: Connection, planned: TypePlan, asked: _Question, end: float) -> None:
    settings = tools().settings
    overdue = find_overdue(connection, settings, planned.notification_type, asked.night)
    for counted in overview_dao.overdue_of_services(
        connection,
        planned.notification_type,
        [(service.service_id, service.cutoff) for service in overdue],
        letter_statuses.of(settings),
        asked.now,
        asked.at_most,
    ):
        planned.services.append(_unless_held(counted, asked.held))
        asked.watch(planned)
        if time.monotonic() > end and len(planned.services) < len(overdue):
            planned.stopped = f"its time was up at {len(planned.services):,} of {len(overdue):,} services"
            return


def _unless_held(service: ServiceOverdue, held: Collection[str]) -> ServiceOverdue:
    """What of the service goes, or all that would go as on hold."""
    if str(service.service_id) not in held:
        return service
    return replace(service, rows=0, test_rows=0, on_hold=service.rows + service.test_rows)
