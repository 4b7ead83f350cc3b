"""Choosing rows of many services at once: of all that keep a type for the same number of days.

One range of the index on (service_id, notification_type, created_at), or of the platform's own that is nearest to it,
is read for each service, oldest rows first, service after service in the order of their ids. What other services keep
is never walked past, whatever there is of it (docs/adr/0055). Cut-offs are aware datetimes here and naive UTC in the
columns.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.dao import notifications_dao, platform_dao
from app.dao.notifications_dao import KIND, NOT_REFERRED_TO, UNLESS_LOCKED, Batch
from app.dao.platform import Platform

NO_SERVICE = UUID(int=0)
LAST_OF_ALL = UUID(int=2**128 - 1)

# A service has the default retention, or its own. One with several is refused, as the night says when it begins.
OF_DAYS = """
    SELECT s.id
    FROM {services} AS s
    CROSS JOIN LATERAL (
        SELECT count(*) AS own, min(r.days_of_retention) AS days FROM {retentions} AS r
        WHERE r.service_id = s.id AND r.notification_type = %(retention_type)s::{retention_type}
    ) AS kept
    WHERE s.id > %(after)s::uuid AND s.id <= %(last)s::uuid
      AND CASE kept.own WHEN 0 THEN %(default_days)s WHEN 1 THEN kept.days END = %(days)s
"""
NOT_ON_HOLD = """
      AND s.id::text NOT IN (SELECT scope FROM retention.holds)
"""
# Those that were handed over to chains of their own, and large ones that were given such from the beginning. Test rows
# go only when the service's real ones have nothing left.
NOT_HANDED_OVER = """
      AND NOT EXISTS (
          SELECT FROM retention.chains AS own
          WHERE own.service_id = s.id AND own.night = %(night)s AND own.notification_type = %(word)s
            AND own.cutoff >= %(cutoff)s
            AND (own.stage = %(kind)s OR own.stage = 'real' AND own.state <> 'ended')
      )
"""
IN_ORDER = """
    ORDER BY s.id
    LIMIT %(services_at_once)s
"""

ELIGIBLE = """
      n.service_id = s.id AND n.notification_type = %(type)s::{type}
  AND n.created_at < %(created_before)s::timestamp
"""
# Hashed once a statement, whoever's they are.
NOT_DEFERRED = """
  AND n.id NOT IN (SELECT notification_id FROM retention.deferred_rows
                   WHERE notification_type = %(word)s AND next_attempt_at > %(now)s)
"""

NEXT_SERVICES = "SELECT count(*), max(s.id::text)::uuid FROM ({members}) AS s"

TAKE = """
CREATE TEMP TABLE retention_batch ON COMMIT DROP AS
SELECT taken.*
FROM ({members}) AS s
CROSS JOIN LATERAL (
    SELECT n.tableoid AS row_table, n.ctid AS row_address, {expressions}
    FROM {notifications} AS n
    WHERE {eligible}
    ORDER BY n.created_at, n.id
    LIMIT %(limit)s
    {unless_locked}
) AS taken
LIMIT %(limit)s
"""

WITH_ROWS = """
SELECT s.id
FROM ({members}) AS s
CROSS JOIN LATERAL (
    SELECT FROM {notifications} AS n WHERE {eligible} ORDER BY n.created_at LIMIT 1
) AS oldest
ORDER BY s.id
LIMIT %(limit)s
"""

LARGE = """
SELECT s.id
FROM unnest(%(services)s::uuid[], %(cutoffs)s::timestamp[]) AS s (id, created_before)
CROSS JOIN LATERAL (
    SELECT FROM {notifications} AS n
    WHERE n.service_id = s.id AND n.notification_type = %(type)s::{type} AND n.created_at < s.created_before
    ORDER BY n.created_at
    OFFSET %(rows)s LIMIT 1
) AS one_too_many
"""

COUNT_BY_SERVICE = "SELECT service_id, count(*) FROM retention_batch GROUP BY service_id ORDER BY service_id"
LAST_IN_BATCH = "SELECT max(service_id::text)::uuid FROM retention_batch"
SERVICES_OF = "SELECT n.service_id, n.id FROM {notifications} AS n WHERE n.id = ANY (%(ids)s::uuid[])"


@dataclass(frozen=True)
class ManyServices:
    """Rows of one type and kind, created before `cutoff` (aware), of the services that keep them for `days`: of those
    with an id above `after`, up to `last`. Rows that are deferred beyond `now` stay.

    `night` and `chain_cutoff` tell which services have chains of their own in this run.
    """

    notification_type: str
    kind: str
    days: int
    default_days: int
    cutoff: datetime
    night: date
    chain_cutoff: datetime
    now: datetime
    after: UUID | None = None
    last: UUID | None = None

    def values(self, platform: Platform, services_at_once: int) -> dict[str, object]:
        """The values that the statements of this module bind, words as the platform has them."""
        return {
            "type": platform.a_type(self.notification_type),
            "retention_type": platform.a_type_of_retention(self.notification_type),
            "word": self.notification_type,
            "kind": self.kind,
            "days": self.days,
            "default_days": self.default_days,
            "created_before": clock.to_column(self.cutoff),
            "night": self.night,
            "cutoff": self.chain_cutoff,
            "now": self.now,
            "after": self.after or NO_SERVICE,
            "last": self.last or LAST_OF_ALL,
            "services_at_once": services_at_once,
        }


def take(connection: Connection, scope: ManyServices, services: int, limit: int) -> Batch:
    """Lock at most `limit` eligible rows of the next so many services, into the batch's temporary table. Raises
    HistoryNotCovered.
    """
    platform = platform_dao.checked_in_index_order(connection)
    statement = platform.mover(TAKE, **_parts(platform, scope), unless_locked=UNLESS_LOCKED)
    connection.exec_driver_sql(statement, {**scope.values(platform, services), "limit": limit})
    return notifications_dao.measured(connection, platform)


def next_services(connection: Connection, scope: ManyServices, at_most: int) -> tuple[int, UUID | None]:
    """How many services a batch takes rows of, no more than `at_most`, and the last of them."""
    platform = platform_dao.known(connection)
    statement = platform.driver(NEXT_SERVICES, **_parts(platform, scope))
    row = connection.exec_driver_sql(statement, scope.values(platform, at_most)).one()
    return row[0], row[1]


def with_rows(
    connection: Connection, scope: ManyServices, at_most: int | None = None, *, all_that_stays: bool = False
) -> list[UUID]:
    """Services that have an eligible row, locked by someone or not, in the order of their ids. With `all_that_stays`
    those on hold, too, and those whose rows stay because others refer to them.
    """
    platform = platform_dao.known_in_index_order(connection)
    parts = _parts(platform, scope, all_that_stays=all_that_stays, in_order=False)
    values = {**scope.values(platform, 0), "limit": at_most}
    return list(connection.exec_driver_sql(platform.driver(WITH_ROWS, **parts), values).scalars())


def large(
    connection: Connection, notification_type: str, services: Sequence[tuple[UUID, datetime]], rows: int
) -> set[UUID]:
    """Of services, each with its cut-off (aware), those that have more than so many rows before it."""
    platform = platform_dao.known_in_index_order(connection)
    values = {
        "services": [service_id for service_id, _ in services],
        "cutoffs": [clock.to_column(cutoff) for _, cutoff in services],
        "type": platform.a_type(notification_type),
        "rows": rows,
    }
    return set(connection.exec_driver_sql(platform.driver(LARGE), values).scalars())


def count_by_service(connection: Connection) -> dict[UUID, int]:
    """How many rows of each service are in the batch's temporary table."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(COUNT_BY_SERVICE)}


def last_in_batch(connection: Connection) -> UUID:
    """The last of the services whose rows are in the batch's temporary table."""
    last: UUID = connection.exec_driver_sql(LAST_IN_BATCH).scalar_one()
    return last


def by_service(connection: Connection, ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """These notifications by their service."""
    found: dict[UUID, list[UUID]] = {}
    if ids:
        statement = platform_dao.known(connection).driver(SERVICES_OF)
        for service_id, id_ in connection.exec_driver_sql(statement, {"ids": list(ids)}):
            found.setdefault(service_id, []).append(id_)
    return found


def services_of(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    """The services of these notifications."""
    return set(by_service(connection, ids))


def just_before(service_id: UUID) -> UUID:
    """The greatest id below this one."""
    return UUID(int=service_id.int - 1)


def _parts(
    platform: Platform, scope: ManyServices, *, all_that_stays: bool = False, in_order: bool = True
) -> dict[str, str]:
    members = OF_DAYS + ("" if all_that_stays else NOT_ON_HOLD) + NOT_HANDED_OVER + (IN_ORDER if in_order else "")
    eligible = ELIGIBLE + "  AND " + KIND[scope.kind] + NOT_DEFERRED
    if platform.deferring and not all_that_stays:
        eligible += NOT_REFERRED_TO
    return {"members": members, "eligible": eligible}
