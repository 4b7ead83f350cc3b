"""What went, when: the records of steps, added up by night, type and stage. Ids, counts and times only."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

# A service's: by its index on (service_id, night), and by that of the services that shared a step.
OF_SERVICE = text(
    """
    SELECT night, service_id, notification_type, stage, count(*) AS steps, sum(moved) AS moved,
           sum(deleted) AS deleted, sum(files_deleted) AS files_deleted, sum(without_file) AS without_file,
           sum(deferred) AS deferred, min(started_at) AS first_at,
           max(started_at + make_interval(secs => seconds)) AS last_at, max(cutoff) AS cutoff
    FROM (
        SELECT night, service_id, notification_type, stage, moved, deleted, files_deleted, without_file, deferred,
               started_at, seconds, cutoff
        FROM retention.steps WHERE service_id = CAST(:service_id AS uuid)
        UNION ALL
        SELECT night, CAST(:service_id AS uuid), notification_type, stage,
               CASE WHEN stage = 'test' THEN 0 ELSE own.removed END,
               CASE WHEN stage = 'test' THEN own.removed ELSE 0 END, 0, 0, 0, started_at, seconds, cutoff
        FROM retention.steps
        CROSS JOIN LATERAL (
            SELECT removed_of[array_position(services, CAST(:service_id AS uuid))] AS removed
        ) AS own
        WHERE services @> ARRAY[CAST(:service_id AS uuid)]
    ) AS steps
    WHERE night BETWEEN :first AND :last AND notification_type = ANY (:types)
    GROUP BY night, service_id, notification_type, stage
    ORDER BY night, notification_type, stage
    """
)

IS_ON_RECORD = text(
    """
    SELECT EXISTS (SELECT FROM retention.steps WHERE service_id = CAST(:service_id AS uuid))
        OR EXISTS (SELECT FROM retention.steps WHERE services @> ARRAY[CAST(:service_id AS uuid)])
    """
)


@dataclass(frozen=True)
class DayOfSteps:
    """A night's steps of a service, type and stage. Times are aware; the cut-off is the latest of the steps'."""

    night: date
    service_id: UUID
    notification_type: str
    stage: str
    steps: int
    moved: int
    deleted: int
    files_deleted: int
    without_file: int
    deferred: int
    first_at: datetime
    last_at: datetime
    cutoff: datetime


def of_service(
    connection: Connection, service_id: UUID, first: date, last: date, types: Collection[str]
) -> list[DayOfSteps]:
    """What a service's steps did from the first to the last night, both included."""
    values = {"service_id": service_id, "first": first, "last": last, "types": list(types)}
    return [DayOfSteps(**row) for row in connection.execute(OF_SERVICE, values).mappings()]


def is_on_record(connection: Connection, service_id: UUID) -> bool:
    """Whether there is a record of a step of the service, which itself may be gone."""
    return bool(connection.execute(IS_ON_RECORD, {"service_id": service_id}).scalar())
