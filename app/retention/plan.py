"""What tonight would do, without doing it: everything here runs in READ ONLY transactions."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from app import clock
from app.dao import holds_dao, overview_dao, services_dao
from app.dao.overview_dao import ServiceOverdue
from app.db import db
from app.retention.nightly import count_without_service, find_overdue
from app.retention.readiness import check_database
from app.retention.tools import tools

SECONDS_FOR_COUNTING = 600.0


@dataclass(frozen=True)
class TypePlan:
    """A type: its services with something overdue, and what is left alone and why.

    Of a service `rows` would move to history, `test_rows` would be deleted, and all others stay, counted by their
    reason: `not_final`, `deferred`, `on_hold`.
    """

    notification_type: str
    services: list[ServiceOverdue]
    rows_without_service: int


@dataclass(frozen=True)
class Plan:
    """A night as it would go now."""

    night: date
    types: list[TypePlan]
    refused: list[services_dao.RefusedRetention]
    holds: list[tuple[str, str]]
    """Scope (a service's id, or `pipeline`) and reason."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`: dates and ids as strings are left to the encoder."""
        return asdict(self)


def plan(night: date | None = None) -> Plan:
    """Count what a night, tonight by default, would move, delete and leave per service and type. Writes nothing.

    Raises DatabaseNotReady.
    """
    settings, types_of_night = tools().settings, tools().notification_types
    now = clock.now()
    night = night or clock.local_date(now, settings.zone)
    check_database()
    with db.transaction(statement_seconds=SECONDS_FOR_COUNTING, read_only=True) as connection:
        holds = [(scope, reason) for scope, reason, *_ in holds_dao.all_holds(connection)]
        held = {scope for scope, _ in holds}
        types = []
        for notification_type in types_of_night:
            overdue = find_overdue(connection, settings, notification_type, night)
            services = overview_dao.overdue_of_services(
                connection,
                notification_type,
                [(service.service_id, service.cutoff) for service in overdue],
                settings.letter_statuses_kept,
                now,
            )
            without_service = count_without_service(connection, settings, notification_type, night)
            planned = [_unless_held(service, held) for service in services]
            types.append(TypePlan(notification_type, planned, without_service))
        return Plan(
            night=night,
            types=types,
            refused=[one for one in services_dao.refused(connection) if one.notification_type in types_of_night],
            holds=holds,
        )


def _unless_held(service: ServiceOverdue, held: Collection[str]) -> ServiceOverdue:
    """What of the service goes, or all that would go as on hold; a pause holds everything."""
    if str(service.service_id) not in held and holds_dao.PIPELINE not in held:
        return service
    return replace(service, rows=0, test_rows=0, on_hold=service.rows + service.test_rows)
