"""What tonight would do, without doing it: everything here runs in a READ ONLY transaction."""

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from app import clock
from app.dao import holds_dao, overview_dao, services_dao
from app.dao.overview_dao import ServiceOverdue
from app.db import db
from app.models.types import LETTER_STATUSES_NOT_FINAL, NOTIFICATION_TYPES
from app.retention.nightly import count_without_service, find_overdue
from app.retention.readiness import check_database
from app.retention.tools import tools

SECONDS_FOR_COUNTING = 600.0


@dataclass(frozen=True)
class TypePlan:
    """A type: its services with something overdue, and what is left alone and why."""

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
    """Count what a night, tonight by default, would move and delete per service and type. Writes nothing.

    Raises DatabaseNotReady.
    """
    settings = tools().settings
    now = clock.now()
    night = night or clock.local_date(now, settings.zone)
    check_database()
    with db.transaction(statement_seconds=SECONDS_FOR_COUNTING, read_only=True) as connection:
        types = []
        for notification_type in NOTIFICATION_TYPES:
            overdue = find_overdue(connection, settings, notification_type, night)
            services = overview_dao.overdue_of_services(
                connection,
                notification_type,
                [(service.service_id, service.cutoff) for service in overdue],
                LETTER_STATUSES_NOT_FINAL,
                now,
            )
            without_service = count_without_service(connection, settings, notification_type, night)
            types.append(TypePlan(notification_type, services, without_service))
        return Plan(
            night=night,
            types=types,
            refused=services_dao.refused(connection),
            holds=[(scope, reason) for scope, reason, *_ in holds_dao.all_holds(connection)],
        )
