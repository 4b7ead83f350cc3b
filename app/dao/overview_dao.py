"""What tonight would do, and what was done: questions only, nothing is written."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock

OVERDUE_OF_SERVICES = text(
    """
    SELECT c.service_id, c.created_before, seen.*
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamp[])) AS c (service_id, created_before)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE n.key_type <> 'test' AND NOT stays.not_final AND d.notification_id IS NULL),
               count(*) FILTER (WHERE n.key_type = 'test' AND NOT stays.not_final AND d.notification_id IS NULL),
               count(*) FILTER (WHERE stays.not_final),
               count(*) FILTER (WHERE NOT stays.not_final AND d.notification_id IS NOT NULL),
               min(n.created_at)
        FROM notifications AS n
        CROSS JOIN LATERAL (
            SELECT n.notification_type = 'letter'
                   AND (n.notification_status IS NULL OR n.notification_status = ANY (:not_final)) AS not_final
        ) AS stays
        LEFT JOIN retention.deferred_letters AS d ON d.notification_id = n.id AND d.next_attempt_at > :now
        WHERE n.service_id = c.service_id AND n.notification_type = :notification_type
          AND n.created_at < c.created_before
    ) AS seen
    ORDER BY c.service_id
    """
)

RUNS = text(
    """
    SELECT r.night, r.started_at, t.notification_type, t.fanned_out_at, t.services, t.rows_without_service
    FROM retention.runs AS r LEFT JOIN retention.run_types AS t ON t.night = r.night
    WHERE r.night >= :since
    ORDER BY r.night DESC, t.notification_type
    """
)

CHAINS = text(
    """
    SELECT night, notification_type, stage, state, reason, count(*) AS chains, min(due_at) AS due_at,
           max(attempts) AS attempts, max(last_error) AS last_error
    FROM retention.chains
    WHERE night >= :since OR state <> 'ended'
    GROUP BY night, notification_type, stage, state, reason
    ORDER BY night DESC, notification_type, stage, state, reason
    """
)

STEPS = text(
    """
    SELECT night, notification_type, count(*) AS steps, sum(moved) AS moved, sum(deleted) AS deleted,
           sum(files_deleted) AS files_deleted, sum(without_file) AS without_file, sum(deferred) AS deferred,
           min(started_at) AS first_at, max(started_at) AS last_at, sum(seconds) AS seconds,
           max(not_final) AS not_final
    FROM retention.steps
    WHERE night >= :since
    GROUP BY night, notification_type
    ORDER BY night DESC, notification_type
    """
)

LEFT_IN_CHAINS = text(
    """
    SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'resting')
    FROM retention.chains
    WHERE id = ANY (:ids)
    """
)


@dataclass(frozen=True)
class ServiceOverdue:
    """What of a service and type is past its cut-off (aware). `deferred` letters wait for their next attempt."""

    service_id: UUID
    cutoff: datetime
    rows: int
    test_rows: int
    not_final: int
    deferred: int
    oldest: datetime | None


def overdue_of_services(
    connection: Connection,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime]],
    not_final: Collection[str],
    now: datetime,
) -> list[ServiceOverdue]:
    """Exact counts for services, each with its cut-off (aware). Reads every overdue row's index entry."""
    values = {
        "notification_type": notification_type,
        "services": [service_id for service_id, _ in services],
        "cutoffs": [clock.to_column(cutoff) for _, cutoff in services],
        "not_final": list(not_final),
        "now": now,
    }
    return [
        ServiceOverdue(
            row[0],
            clock.from_column(row[1]),
            row[2],
            row[3],
            row[4],
            row[5],
            clock.from_column(row[6]) if row[6] else None,
        )
        for row in connection.execute(OVERDUE_OF_SERVICES, values)
    ]


def runs_since(connection: Connection, since: date) -> list[dict[str, object]]:
    """Nights, each with its types and when they were fanned out."""
    return [dict(row) for row in connection.execute(RUNS, {"since": since}).mappings()]


def chains_since(connection: Connection, since: date) -> list[dict[str, object]]:
    """Chains by night, type, stage, state and reason; those of earlier nights only while they have not ended."""
    return [dict(row) for row in connection.execute(CHAINS, {"since": since}).mappings()]


def steps_since(connection: Connection, since: date) -> list[dict[str, object]]:
    """What the steps of each night and type did, in sums."""
    return [dict(row) for row in connection.execute(STEPS, {"since": since}).mappings()]


def chains_left(connection: Connection, ids: Sequence[int]) -> tuple[int, int]:
    """Of these chains, how many wait or work, and how many rest."""
    row = connection.execute(LEFT_IN_CHAINS, {"ids": list(ids)}).one()
    return row[0], row[1]
