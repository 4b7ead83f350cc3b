"""What is past its retention and still there, seen in the data itself: a few index pages a service, at any size."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app import clock
from app.dao import platform_dao
from app.models.types import LETTER

# Bounds that the planner can't see and an order that it may not sort for: as for the choice of a batch, it must read
# the index on (service_id, notification_type, created_at), and stop at the cap. Where neither a status nor another
# table's row keeps a message, that index says it all, without a page of the table.
FREE_TO_GO = """
    SELECT c.service_id, c.created_before, seen.rows, 0 AS not_final, CAST(NULL AS timestamp) AS oldest_not_final,
           seen.oldest, 0 AS referred_to, CAST(NULL AS timestamp) AS oldest_referred_to
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
    SELECT c.service_id, c.created_before, seen.rows, seen.not_final, seen.oldest_not_final, final.oldest,
           seen.referred_to, seen.oldest_referred_to
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamp[])) AS c (service_id, created_before)
    CROSS JOIN LATERAL (
        SELECT count(*) AS rows, count(*) FILTER (WHERE first.not_final) AS not_final,
               min(first.created_at) FILTER (WHERE first.not_final) AS oldest_not_final,
               count(*) FILTER (WHERE first.referred_to AND NOT first.not_final) AS referred_to,
               min(first.created_at) FILTER (WHERE first.referred_to AND NOT first.not_final) AS oldest_referred_to
        FROM (
            SELECT n.created_at,
                   :is_letter AND coalesce(n.notification_status = ANY (CAST(:not_final AS {status}[])), true)
                       AS not_final,
                   {referred} AS referred_to
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
          AND (NOT :is_letter OR n.notification_status <> ALL (CAST(:not_final AS {status}[])))
          AND NOT {referred}
        ORDER BY n.created_at
        LIMIT 1
    ) AS final ON true
    ORDER BY c.service_id
    """

KEEPERS = text(
    """
    SELECT service_id, reason || ' (' || count(*) || ')' FROM retention.deferred_letters
    WHERE :notification_type = 'letter'
    GROUP BY service_id, reason
    UNION
    SELECT service_id, bucket || ': ' || reason FROM retention.deferred_buckets WHERE :notification_type = 'letter'
    UNION
    SELECT service_id, reason FROM retention.chains
    WHERE state = 'resting' AND notification_type = :notification_type
    ORDER BY 1, 2
    """
)


@dataclass(frozen=True)
class Overdue:
    """A service's rows of a type past its cut-off. Times are aware; `rows` counts one further than the cap at most.

    `oldest` is the oldest that could go now. Of the counted rows, `not_final` are letters that are not final yet, and
    rows of other tables refer to `referred_to` of the rest.
    """

    service_id: UUID
    cutoff: datetime
    rows: int
    not_final: int
    oldest_not_final: datetime | None
    oldest: datetime | None
    referred_to: int
    oldest_referred_to: datetime | None


def overdue(
    connection: Connection,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime]],
    not_final: Collection[str],
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
        values |= {"is_letter": is_letter, "not_final": platform.statuses(not_final)}
    return [
        Overdue(
            row.service_id,
            clock.from_column(row.created_before),
            row.rows,
            row.not_final,
            _aware(row[4]),
            _aware(row[5]),
            row.referred_to,
            _aware(row.oldest_referred_to),
        )
        for row in connection.execute(platform.clause(statement), values)
    ]


def keepers(connection: Connection, notification_type: str) -> dict[UUID, tuple[str, ...]]:
    """By service, why chains of it rest, and why letters or buckets of it are held back, as words for people."""
    found: dict[UUID, tuple[str, ...]] = {}
    for service_id, why in connection.execute(KEEPERS, {"notification_type": notification_type}):
        found[service_id] = (*found.get(service_id, ()), why)
    return found


def _aware(instant: datetime | None) -> datetime | None:
    return None if instant is None else clock.from_column(instant)
