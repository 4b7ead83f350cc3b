"""A platform's tables, filled from ONE seed: the same rows every time, but for the day on which they end.

At scale 1: 3 million notifications of the last 30 days in the order of their creation, 2,000 services with a
Zipf-like share, the largest with 400,000, and 2 million rows in history of the year before. All made inside of
PostgreSQL: a row's values are hashes of its number.
"""

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from app import clock
from benchmarks import connections

SEED = 4711
NAMESPACE = UUID("6f1c1e0e-8a53-4a3f-9d0c-6b1a52b0a4b5")

NOTIFICATIONS = 3_000_000
HISTORY = 2_000_000
SERVICES = 2_000
SHARE_OF_LARGEST = 400_000 / 3_000_000
DAYS = 30
DAYS_OF_HISTORY = 365
DAYS_OF_RETENTION = 7

SERVICE_ROWS = """
INSERT INTO services (id, name, active, created_at)
SELECT id, 'Service ' || number, true, now() FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS s (id, number)
"""
# One in twenty has a retention of its own; the largest ten keep the default.
RETENTION_ROWS = """
INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at)
SELECT gen_random_uuid(), id, type, (ARRAY[3, 14, 30])[1 + number %% 3], now()
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS s (id, number),
     unnest(ARRAY['email', 'sms', 'letter']::notification_type[]) AS type
WHERE number > 10 AND number %% 20 = 0
"""

# `dealt` decides the service, `kind` the type, `rest` all else; -1 to take the sign off a hash.
NUMBERED = """
WITH numbered AS (
    SELECT i, %(oldest)s::timestamp + (%(newest)s::timestamp - %(oldest)s::timestamp) * (i / %(rows)s::float8) AS at,
           (hashint8extended(i, %(seed)s) & 2147483647) / 2147483648.0::float8 AS dealt,
           hashint8extended(i, %(seed)s + 1) & 1023 AS kind,
           hashint8extended(i, %(seed)s + 2) & 65535 AS rest
    FROM generate_series(1, %(rows)s::bigint) AS i
), placed AS (
    SELECT numbered.*, width_bucket(dealt, %(shares)s::float8[]) AS service,
           CASE WHEN kind < 51 THEN 'letter' WHEN kind < 410 THEN 'sms' ELSE 'email' END::notification_type AS type
    FROM numbered
)
"""
# 3 % test, 7 % team; 4 % permanent failures, 1 % letters not final; half from jobs of 1,000 rows.
SHARED = """
       md5(i::text || %(salt)s)::uuid AS id, ids[service + 1] AS service_id, type AS notification_type,
       CASE WHEN rest %% 100 < 3 THEN 'test' WHEN rest %% 100 < 10 THEN 'team' ELSE 'normal' END AS key_type,
       CASE WHEN rest %% 97 < 4 THEN 'permanent-failure' WHEN type = 'letter' AND rest %% 97 = 5 THEN 'created'
            ELSE 'delivered' END AS notification_status,
       at AS created_at, at + interval '2 s' AS sent_at, 'provider' AS sent_by, at + interval '9 s' AS updated_at,
       CASE type WHEN 'letter' THEN upper(substr(md5(i::text || %(salt)s), 1, 16))
                 ELSE md5(i::text || %(salt)s || 'r') END AS reference,
       CASE WHEN rest %% 5 = 0 THEN 'ref-' || i END AS client_reference,
       md5(service || ' ' || rest %% 5)::uuid AS template_id, 1 + (rest %% 7)::int AS template_version,
       CASE WHEN rest %% 2 = 0 THEN md5(service || ' ' || i / 10000)::uuid END AS job_id,
       CASE WHEN rest %% 2 = 0 THEN (i %% 1000)::int END AS job_row_number,
       CASE WHEN rest %% 2 = 1 THEN md5(service || ' key')::uuid END AS api_key_id,
       1 AS billable_units, false AS international,
       CASE type WHEN 'sms' THEN '44' END AS phone_prefix, CASE type WHEN 'sms' THEN 1 END AS rate_multiplier,
       CASE type WHEN 'letter' THEN 'second' END AS postage
"""
SHARED_NAMES = """
    id, service_id, notification_type, key_type, notification_status, created_at, sent_at, sent_by, updated_at,
    reference, client_reference, template_id, template_version, job_id, job_row_number, api_key_id,
    billable_units, international, phone_prefix, rate_multiplier, postage
"""
FILL_NOTIFICATIONS = f"""
INSERT INTO notifications ({SHARED_NAMES}, "to", normalised_to, _personalisation)
{NUMBERED}
SELECT {SHARED}, address, address, repeat('p', 100 + (rest %% 100)::int)
FROM placed, (SELECT %(ids)s::uuid[] AS ids) AS services,
     LATERAL (SELECT CASE type WHEN 'email' THEN 'person.' || kind * 977 + rest || '@example.org'
                               ELSE '4477009' || 10000 + rest END AS address) AS addressed
ORDER BY i
"""
FILL_HISTORY = f"""
INSERT INTO notification_history ({SHARED_NAMES})
{NUMBERED}
SELECT {SHARED} FROM placed, (SELECT %(ids)s::uuid[] AS ids) AS services
ORDER BY i
"""

INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %(table)s AND indexname <> %(key)s"
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'f') ORDER BY contype DESC
"""


@dataclass(frozen=True)
class Platform:
    """What was filled in: how many rows, whose, and until when."""

    database: str
    scale: float

    @property
    def notifications(self) -> int:
        return int(NOTIFICATIONS * self.scale)

    @property
    def history(self) -> int:
        return int(HISTORY * self.scale)

    @cached_property
    def services(self) -> list[UUID]:
        """Their ids, the largest first. Fewer than a row each would be no platform."""
        count = max(20, min(SERVICES, int(SERVICES * self.scale * 10)))
        return [uuid5(NAMESPACE, f"{SEED} service {number}") for number in range(count)]

    @property
    def largest(self) -> UUID:
        return self.services[0]

    @cached_property
    def newest(self) -> datetime:
        """Where the rows end: the last midnight (aware, UTC)."""
        return datetime.combine(clock.now().date(), time(), UTC)

    @property
    def oldest(self) -> datetime:
        return self.newest - timedelta(days=DAYS)

    @property
    def cutoff(self) -> datetime:
        """The default retention's."""
        return self.newest - timedelta(days=DAYS_OF_RETENTION)

    @cached_property
    def shares(self) -> list[float]:
        """Up to where of [0, 1) each service but the last is dealt rows."""
        weights = _zipf(len(self.services), SHARE_OF_LARGEST)
        bounds, sum_so_far = [], 0.0
        for weight in weights[:-1]:
            sum_so_far += weight
            bounds.append(sum_so_far)
        return bounds


def _zipf(count: int, largest: float) -> list[float]:
    """Shares falling with a power of the rank, the first of which is `largest`; their sum is 1."""

    def of_first(power: float) -> float:
        return 1 / sum(rank**-power for rank in range(1, count + 1))

    powers = [step / 1000 for step in range(3000)]
    power = powers[min(bisect(powers, largest, key=of_first), len(powers) - 1)]
    return [of_first(power) * rank**-power for rank in range(1, count + 1)]


def fill(connection: Any, platform: Platform, say: Callable[[str], None]) -> None:
    """Fill the migrated, empty tables: rows first, keys and indexes afterwards."""
    ids = [str(service) for service in platform.services]
    connections.run(connection, SERVICE_ROWS, {"ids": ids})
    connections.run(connection, RETENTION_ROWS, {"ids": ids})
    values = {"ids": ids, "shares": platform.shares, "seed": SEED}
    live = {"salt": "live", "rows": platform.notifications, "oldest": platform.oldest, "newest": platform.newest}
    long_ago = platform.oldest - timedelta(days=DAYS_OF_HISTORY)
    old = {"salt": "old", "rows": platform.history, "oldest": long_ago, "newest": platform.oldest}
    connections.run(connection, "SET timezone = 'UTC'")
    fill_without_indexes(connection, "notifications", FILL_NOTIFICATIONS, values | live)
    say(f"{platform.notifications:,} notifications")
    fill_without_indexes(connection, "notification_history", FILL_HISTORY, values | old)
    say(f"{platform.history:,} rows of history")
    connections.run(connection, "VACUUM (ANALYZE)")


def fill_without_indexes(connection: Any, table: str, statement: str, values: dict[str, Any]) -> None:
    """Execute the insert with the table's keys and indexes taken off, and put them back as they were."""
    with connection.cursor() as cursor:
        cursor.execute(INDEXES, {"table": table, "key": f"{table}_pkey"})
        indexes = cursor.fetchall()
        cursor.execute(CONSTRAINTS, {"table": table})
        constraints = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        for name, _ in constraints:
            cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        cursor.execute(statement, values)
        cursor.execute("SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2")
        for name, definition in constraints:
            cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')
        for _, definition in indexes:
            cursor.execute(definition)
