"""What is past its retention and still there, seen in the data itself: a few index pages a service, at any size."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import platform_dao
from app.dao.letter_statuses import IS_FINAL, IS_UNFINISHED, LetterStatuses
from app.models.types import LETTER

# Bounds that the planner can't see and an order that it may not sort for: as for the choice of a batch, it must read
# the index on (service_id, notification_type, created_at), and stop at the cap. Where neither a status nor another
# table's row keeps a message, that index says it all, without a page of the table.
FREE_TO_GO = """
    SELECT c.service_id, c.created_before, seen.rows, 0 AS not_final, CAST(NULL AS timestamp) AS oldest_not_final,
           0 AS unknown_status, CAST(NULL AS timestamp) AS oldest_unknown_status, seen.oldest, 0 AS referred_to,
           CAST(NULL AS timestamp) AS oldest_referred_to
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamp[])) AS c (service_id, created_before)
    CROSS JOIN LATERAL (
        SELECT count(*) AS rows, min(first.created_at) AS oldest
        FROM (
            SELECT n.created_at FROM {notifications} AS n
            WHERE n.service_id = c.service_id AND n.notification_type = CAST(:notification_type AS {type})
              AND n.created_at < c.created_before
            ORDER BY n.created_at
            LIMIT :cap + 1
        ) AS first
    ) AS seen
    ORDER BY c.service_id
    """
SOME_KEPT = """
    SELECT c.service_id, c.created_before, seen.rows, seen.not_final, seen.oldest_not_final, seen.unknown_status,
           seen.oldest_unknown_status, final.oldest, seen.referred_to, seen.oldest_referred_to
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamp[])) AS c (service_id, created_before)
    CROSS JOIN LATERAL (
        SELECT count(*) AS rows,
               count(*) FILTER (WHERE NOT first.final AND first.unfinished) AS not_final,
               min(first.created_at) FILTER (WHERE NOT first.final AND first.unfinished) AS oldest_not_final,
               count(*) FILTER (WHERE NOT first.final AND NOT first.unfinished) AS unknown_status,
               min(first.created_at) FILTER (WHERE NOT first.final AND NOT first.unfinished) AS oldest_unknown_status,
               count(*) FILTER (WHERE first.referred_to AND first.final) AS referred_to,
               min(first.created_at) FILTER (WHERE first.referred_to AND first.final) AS oldest_referred_to
        FROM (
            SELECT n.created_at,
                   NOT :is_letter OR {is_final} AS final, {is_unfinished} AS unfinished, {referred} AS referred_to
            FROM {notifications} AS n
            WHERE n.service_id = c.service_id AND n.notification_type = CAST(:notification_type AS {type})
              AND n.created_at < c.created_before
            ORDER BY n.created_at
            LIMIT :cap + 1
        ) AS first
    ) AS seen
    LEFT JOIN LATERAL (
        SELECT n.created_at AS oldest FROM {notifications} AS n
        WHERE n.service_id = c.service_id AND n.notification_type = CAST(:notification_type AS {type})
          AND n.created_at < c.created_before
          AND (NOT :is_letter OR {is_final})
          AND NOT {referred}
        ORDER BY n.created_at
        LIMIT 1
    ) AS final ON true
    ORDER BY c.service_id
    """

KEEPERS = text(
    """
    SELECT service_id, NULL::integer AS days,
           CASE WHEN refused_by IS NULL THEN reason
                ELSE concat_ws(' ', 'refused by the database:', reason, sqlstate, refused_by) END
           || ' (' || count(*) || ')'
    FROM retention.deferred_rows
    WHERE notification_type = :notification_type
    GROUP BY service_id, reason, sqlstate, refused_by
    UNION
    SELECT service_id, NULL, bucket || ': ' || reason FROM retention.deferred_buckets
    WHERE :notification_type = 'letter'
    UNION
    SELECT service_id, days, concat_ws(': ', reason, last_error) FROM retention.chains
    WHERE state = 'resting' AND notification_type = :notification_type
    ORDER BY 1, 2, 3
    """
)


@dataclass(frozen=True)
class Overdue:
    """A service's rows of a type past its cut-off. Times are aware; `rows` counts one further than the cap at most.

    `oldest` is the oldest that could go now. Of the counted rows, `not_final` are letters that are under way,
    `unknown_status` are in none that is known, and rows of other tables refer to `referred_to` of the rest.
    """

    service_id: UUID
    cutoff: datetime
    rows: int
    not_final: int
    oldest_not_final: datetime | None
    unknown_status: int
    oldest_unknown_status: datetime | None
    oldest: datetime | None
    referred_to: int
    oldest_referred_to: datetime | None


def overdue(
    connection: Connection,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime]],
    statuses: LetterStatuses,
    cap: int,
) -> list[Overdue]:
    """For services, each with its cut-off (aware): what is past it, counted no further than one above the cap."""
    platform = platform_dao.known_in_index_order(connection)
    is_letter = notification_type == LETTER
    values: dict[str, object] = {
        "notification_type": platform.a_type(notification_type),
        "services": [service_id for service_id, _ in services],
        "cutoffs": [clock.to_column(cutoff) for _, cutoff in services],
        "cap": cap,
    }
    statement = FREE_TO_GO
    if is_letter or platform.deferring:
        statement = SOME_KEPT
        values |= {"is_letter": is_letter, **statuses.values(platform)}
    return [
        Overdue(
            row.service_id,
            clock.from_column(row.created_before),
            row.rows,
            row.not_final,
            _aware(row.oldest_not_final),
            row.unknown_status,
            _aware(row.oldest_unknown_status),
            _aware(row.oldest),
            row.referred_to,
            _aware(row.oldest_referred_to),
        )
        for row in connection.execute(
            platform.clause(statement, is_final=IS_FINAL, is_unfinished=IS_UNFINISHED), values
        )
    ]


def keepers(connection: Connection, notification_type: str) -> dict[UUID | int, tuple[str, ...]]:
    """By service, why chains of it rest, and why letters or buckets of it are held back; by days, why chains rest that
    are for all services which keep the type so long. As words for people.
    """
    found: dict[UUID | int, tuple[str, ...]] = {}
    for service_id, days, why in connection.execute(KEEPERS, {"notification_type": notification_type}):
        whose = days if service_id is None else service_id
        found[whose] = (*found.get(whose, ()), why)
    return found


def _aware(instant: datetime | None) -> datetime | None:
    return None if instant is None else clock.from_column(instant)
