"""What tonight would do, and what was done: questions only, nothing is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import platform_dao
from app.dao.letter_statuses import IS_FINAL, IS_UNFINISHED, LetterStatuses
from app.models.types import LETTER

# As for the choice of a batch, the bounds are hidden from the planner, which may not sort (docs/adr/0005): it reads the
# index on (service_id, notification_type, created_at), or the platform's nearest, and stops at the limit.
OVERDUE_OF_SERVICE = """
    SELECT count(*) FILTER (WHERE it.goes AND n.key_type <> 'test') AS rows,
           count(*) FILTER (WHERE it.goes AND n.key_type = 'test') AS test_rows,
           count(*) FILTER (WHERE NOT n.final AND n.unfinished) AS not_final,
           count(*) FILTER (WHERE NOT n.final AND NOT n.unfinished) AS unknown_status,
           count(*) FILTER (WHERE n.final AND n.deferred) AS deferred,
           count(*) FILTER (WHERE n.final AND NOT n.deferred AND n.referred_to) AS referred_to,
           min(n.created_at) AS oldest, count(*) AS seen
    FROM (
        SELECT n.created_at, n.key_type,
               NOT :is_letter OR {is_final} AS final, {is_unfinished} AS unfinished,
               n.id IN (SELECT notification_id FROM retention.deferred_rows
                         WHERE service_id = :service_id AND next_attempt_at > :now) AS deferred,
               {referred} AS referred_to
        FROM {notifications} AS n
        WHERE n.service_id = (SELECT CAST(:service_id AS uuid))
          AND n.notification_type = CAST(:notification_type AS {type})
          AND n.created_at < (SELECT CAST(:created_before AS timestamp))
        ORDER BY n.created_at
        LIMIT :at_most
    ) AS n
    CROSS JOIN LATERAL (SELECT n.final AND NOT (n.deferred OR n.referred_to) AS goes) AS it
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
           max(attempts) AS attempts, error_class, sqlstate, refused_by, refused_table, s3_code
    FROM retention.chains
    WHERE night >= :since OR state <> 'ended'
    GROUP BY night, notification_type, stage, state, reason, error_class, sqlstate, refused_by, refused_table, s3_code
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
    """What of a service and type is past its cut-off (aware). Letters that are `not_final` are still under way, those
    of `unknown_status` in none that is known. `deferred` letters wait for their next attempt; the rows that are
    `referred_to` by those of another table stay with them.

    With `more` the counts are those of its oldest rows, and each may be higher. `on_hold` is what would go but for a
    hold: the caller knows.
    """

    service_id: UUID
    cutoff: datetime
    rows: int
    test_rows: int
    not_final: int
    unknown_status: int
    deferred: int
    referred_to: int
    oldest: datetime | None
    more: bool
    on_hold: int = 0


def overdue_of_services(
    connection: Connection,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime]],
    statuses: LetterStatuses,
    now: datetime,
    at_most: int | None,
) -> Iterator[ServiceOverdue]:
    """Count for services, each with its cut-off (aware), one after the other; of each the oldest `at_most` rows.

    A statement each, so that none has a snapshot, which vacuum waits for, longer than one service takes.
    """
    platform = platform_dao.known_in_index_order(connection)
    values = {
        "notification_type": platform.a_type(notification_type),
        "is_letter": notification_type == LETTER,
        **statuses.values(platform),
        "now": now,
        "at_most": at_most,
    }
    statement = platform.clause(OVERDUE_OF_SERVICE, is_final=IS_FINAL, is_unfinished=IS_UNFINISHED)
    for service_id, cutoff in services:
        bounds = {"service_id": service_id, "created_before": clock.to_column(cutoff)}
        row = connection.execute(statement, values | bounds).one()
        yield ServiceOverdue(
            service_id,
            cutoff,
            row.rows,
            row.test_rows,
            row.not_final,
            row.unknown_status,
            row.deferred,
            row.referred_to,
            clock.from_column(row.oldest) if row.oldest else None,
            more=row.seen == at_most,
        )


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
