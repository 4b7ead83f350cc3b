"""What tonight would do, and what was done: questions only, nothing is written."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import platform_dao
from app.models.types import LETTER

OVERDUE_OF_SERVICES = """
    SELECT c.service_id, c.created_before, seen.*
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamp[])) AS c (service_id, created_before)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE n.key_type <> 'test' AND it.goes),
               count(*) FILTER (WHERE n.key_type = 'test' AND it.goes),
               count(*) FILTER (WHERE it.not_final),
               count(*) FILTER (WHERE NOT it.not_final AND it.deferred),
               count(*) FILTER (WHERE NOT it.not_final AND NOT it.deferred AND it.referred_to),
               min(n.created_at)
        FROM {notifications} AS n
        LEFT JOIN retention.deferred_letters AS d ON d.notification_id = n.id AND d.next_attempt_at > :now
        CROSS JOIN LATERAL (
            SELECT :is_letter AND (n.notification_status IS NULL
                                   OR n.notification_status = ANY (CAST(:not_final AS {status}[]))) AS not_final,
                   d.notification_id IS NOT NULL AS deferred, {referred} AS referred_to
        ) AS why
        CROSS JOIN LATERAL (
            SELECT why.*, NOT (why.not_final OR why.deferred OR why.referred_to) AS goes
        ) AS it
        WHERE n.service_id = c.service_id AND n.notification_type = CAST(:notification_type AS {type})
          AND n.created_at < c.created_before
    ) AS seen
    ORDER BY c.service_id
    """

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

FOLDERS = text(
    """
    SELECT night, bucket, count(*) AS folders, sum(files) AS files, sum(orphans) AS without_row
    FROM retention.folder_counts
    WHERE night >= :since
    GROUP BY night, bucket
    ORDER BY night DESC, bucket
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
    """What of a service and type is past its cut-off (aware). `deferred` letters wait for their next attempt; the rows
    that are `referred_to` by those of another table stay with them.

    `on_hold` is what would go but for a hold: the caller knows.
    """

    service_id: UUID
    cutoff: datetime
    rows: int
    test_rows: int
    not_final: int
    deferred: int
    referred_to: int
    oldest: datetime | None
    on_hold: int = 0


def overdue_of_services(
    connection: Connection,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime]],
    not_final: Collection[str],
    now: datetime,
) -> list[ServiceOverdue]:
    """Exact counts for services, each with its cut-off (aware). Reads every overdue row's index entry."""
    platform = platform_dao.known(connection)
    values = {
        "notification_type": platform.a_type(notification_type),
        "is_letter": notification_type == LETTER,
        "services": [service_id for service_id, _ in services],
        "cutoffs": [clock.to_column(cutoff) for _, cutoff in services],
        "not_final": platform.statuses(not_final),
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
            row[6],
            clock.from_column(row[7]) if row[7] else None,
        )
        for row in connection.execute(platform.clause(OVERDUE_OF_SERVICES), values)
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


def folders_since(connection: Connection, since: date) -> list[dict[str, object]]:
    """Per night and bucket, the letters' folders that were indexed: their files, and those that have no row."""
    return [dict(row) for row in connection.execute(FOLDERS, {"since": since}).mappings()]


def chains_left(connection: Connection, ids: Sequence[int]) -> tuple[int, int]:
    """Of these chains, how many wait or work, and how many rest."""
    row = connection.execute(LEFT_IN_CHAINS, {"ids": list(ids)}).one()
    return row[0], row[1]
