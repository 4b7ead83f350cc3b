"""What rows that stay cost the batches of many services: five nights in a row, with an old snapshot held open."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import uuid5

from app import clock
from app.retention import chains, nightly
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import BUFFERS
from benchmarks.platform import DAYS_OF_RETENTION, NAMESPACE, SERVICE_ROWS, fill_without_indexes
from benchmarks.product import product
from benchmarks.schema import empty_platform

NIGHTS = 5
DAYS_BEFORE_THE_FIRST = 70  # so that none of 90 days is up in these nights
SERVICES = 1_500
SERVICES_WITH_90_DAYS = 150
SERVICES_ON_HOLD = 20
ROWS_A_DAY = 50_000
ROWS_ON_HOLD = 2_000_000
LETTERS_NEVER_FINAL = 50_000
ROWS_PER_BATCH = 5_000
TYPES = ("email", "sms")

INDEXES: dict[str, tuple[str, ...]] = {
    "every index": (),
    "none on created_at alone": ("ix_notifications_created_at",),
    "(service_id, created_at) only": (
        "ix_notifications_created_at",
        "ix_notifications_service_id_notification_type_created_at",
    ),
}
"""The platforms' indexes, by what is missing of our own."""
NOT_FOR_CHOOSING = """
SELECT indexname FROM pg_indexes WHERE tablename = 'notifications'
  AND (indexdef LIKE '%USING gin%' OR indexname ~ '(not_delivered|type_composite|job_id|template_id|reference)$')
"""

LONGER = """
INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at)
SELECT gen_random_uuid(), id, type, 90, now()
FROM unnest(%(ids)s::uuid[]) AS id, unnest(ARRAY['email', 'sms', 'letter']::notification_type[]) AS type
"""
HOLDS = """
INSERT INTO retention.holds (scope, reason, placed_by, placed_at)
SELECT id::text, 'a benchmark', 'a benchmark', now() FROM unnest(%(ids)s::uuid[]) AS id
"""
# Of every hundred rows one is a letter, 69 are emails; three in a hundred are made with a test key. `share` deals a
# part's rows out evenly over its time, and over its services by a hash.
ROWS = """
INSERT INTO notifications (id, service_id, notification_type, key_type, notification_status, created_at, updated_at,
                           reference, template_id, template_version, billable_units, "to", normalised_to, postage)
SELECT md5(part || i)::uuid, ids[1 + (hashint8(i) & 2147483647) %% cardinality(ids)],
       CASE WHEN is_letter OR i %% 100 = 0 THEN 'letter'
            WHEN i %% 10 < 7 THEN 'email' ELSE 'sms' END::notification_type,
       CASE WHEN i %% 33 = 1 THEN 'test' ELSE 'normal' END,
       CASE WHEN is_letter THEN 'created' ELSE 'delivered' END, at, at + interval '9 s', md5(part || i || 'r'),
       md5((i %% 500)::text)::uuid, 1, 1, 'person' || i || '@example.org', 'person' || i || '@example.org',
       CASE WHEN is_letter OR i %% 100 = 0 THEN 'second' END
FROM (
    SELECT part, is_letter, ids, i, since + (until - since) * (i::float8 / rows) AS at
    FROM (VALUES
        ('group', false, %(group)s::uuid[], %(first)s::timestamp, %(last)s::timestamp, %(group_rows)s::bigint),
        ('longer', false, %(longer)s::uuid[], %(oldest)s::timestamp, %(last)s::timestamp, %(longer_rows)s::bigint),
        ('held', false, %(held)s::uuid[], %(oldest)s::timestamp, %(last)s::timestamp, %(held_rows)s::bigint),
        ('stuck', true, %(group)s::uuid[], %(oldest)s::timestamp, %(last)s::timestamp, %(stuck_rows)s::bigint)
    ) AS parts (part, is_letter, ids, since, until, rows), LATERAL generate_series(1, rows) AS i
) AS dealt
ORDER BY at
"""
MOVED = "SELECT coalesce(sum(moved), 0)::bigint FROM retention.steps"


@dataclass(frozen=True)
class Cost:
    """A step that moved rows: its buffers, the lease's and those of steps before it that moved none among them."""

    rows: int
    buffers: int
    choice: int

    @property
    def per_row(self) -> float:
        return self.buffers / self.rows


@dataclass(frozen=True)
class Size:
    """How many rows of each part, and the nights."""

    scale: float
    last_night: date

    @property
    def nights(self) -> list[date]:
        return [self.last_night - timedelta(days=n) for n in reversed(range(NIGHTS))]

    @property
    def first(self) -> datetime:
        """Where the rows of the group begin (naive, UTC): a day before the first night's cut-off."""
        return datetime.combine(self.nights[0] - timedelta(days=DAYS_OF_RETENTION + 1), time())

    def parts(self, *, with_kept: bool) -> dict[str, Any]:
        kept_days = DAYS_BEFORE_THE_FIRST + NIGHTS
        of_90_days = ROWS_A_DAY * self.scale / 9 * kept_days if with_kept else 0
        return {
            "first": self.first,
            "last": self.first + timedelta(days=NIGHTS),
            "oldest": self.first - timedelta(days=DAYS_BEFORE_THE_FIRST),
            "group_rows": int(ROWS_A_DAY * self.scale) * NIGHTS,
            "longer_rows": int(of_90_days),
            "held_rows": int(ROWS_ON_HOLD * self.scale) if with_kept else 0,
            "stuck_rows": int(LETTERS_NEVER_FINAL * self.scale) if with_kept else 0,
        }


Found = dict[tuple[str, bool], list[Cost]]


def run(bench: Bench) -> list[Measure]:
    size = Size(bench.scale, clock.now().date())
    found: Found = {}
    for with_kept in (False, True):
        with empty_platform(bench, f"kept_{with_kept}") as template:
            _fill(bench, template, size, with_kept=with_kept)
            for indexes in INDEXES:
                found[indexes, with_kept] = _nights(bench, template, indexes, size)
    _show(bench, found)
    return _measures(found)


def _fill(bench: Bench, url: str, size: Size, *, with_kept: bool) -> None:
    bench.say(f"filling a platform {'with' if with_kept else 'without'} rows that stay")
    ids = [str(uuid5(NAMESPACE, f"kept {n}")) for n in range(SERVICES + SERVICES_WITH_90_DAYS + SERVICES_ON_HOLD)]
    group, longer = ids[:SERVICES], ids[SERVICES : SERVICES + SERVICES_WITH_90_DAYS]
    held = ids[SERVICES + SERVICES_WITH_90_DAYS :]
    with connections.owner(url) as connection:
        connections.run(connection, "SET timezone = 'UTC'")
        connections.run(connection, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connections.run(connection, SERVICE_ROWS, {"ids": ids})
        connections.run(connection, LONGER, {"ids": longer})
        connections.run(connection, HOLDS, {"ids": held})
        with connection.cursor() as cursor:
            cursor.execute(NOT_FOR_CHOOSING)
            for (name,) in cursor.fetchall():
                cursor.execute(f'DROP INDEX "{name}"')
        services = {"group": group, "longer": longer, "held": held}
        fill_without_indexes(connection, "notifications", ROWS, services | size.parts(with_kept=with_kept))
        connections.run(connection, "VACUUM (ANALYZE)")


def _nights(bench: Bench, template: str, indexes: str, size: Size) -> list[Cost]:
    """Five nights in a row on a copy that lacks some indexes, with a snapshot from before them held open."""
    bench.say(f"five nights: {indexes}")
    with ExitStack() as ends:
        url = ends.enter_context(bench.copy_of(template, "nights"))
        watch = ends.enter_context(connections.owner(url))
        for index in INDEXES[indexes]:
            connections.run(watch, f'DROP INDEX "{index}"')
        snapshot = ends.enter_context(connections.owner(url, autocommit=False))
        connections.run(snapshot, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connections.run(snapshot, "SELECT FROM services LIMIT 1")
        app = ends.enter_context(product(url, messages_per_step=max(50, int(ROWS_PER_BATCH * bench.scale))))
        ends.enter_context(app.app_context())
        return [cost for night in size.nights for kind in TYPES for cost in _costs(watch, kind, night)]


def _costs(watch: Any, kind: str, night: date) -> Iterator[Cost]:
    """Of each step that moved something; what opening the night's chains costs comes first, and counts with it."""
    buffers = choice = 0
    connections.run(watch, "SELECT pg_stat_statements_reset()")
    moved = connections.scalar(watch, MOVED)
    wakes = nightly.fan_out(kind, night)
    while wakes:
        wake = wakes.pop(0)
        wakes += chains.run_step(wake.chain, wake.step, None)
        now = connections.scalar(watch, MOVED)
        buffers += connections.scalar(watch, BUFFERS, {"like": "%"})
        choice += connections.scalar(watch, BUFFERS, {"like": "%CREATE TEMP TABLE%"})
        if now > moved:
            yield Cost(now - moved, buffers, choice)
            buffers = choice = 0
        moved = now
        connections.run(watch, "SELECT pg_stat_statements_reset()")


def _show(bench: Bench, found: Found) -> None:
    table = []
    for (indexes, with_kept), costs in found.items():
        rows = sum(cost.rows for cost in costs)
        table.append(
            [
                f"{indexes}, {'kept rows' if with_kept else 'none kept'}",
                shown(rows),
                shown(len(costs)),
                shown(sum(cost.buffers for cost in costs) / rows),
                shown(max(cost.per_row for cost in costs)),
                shown(sum(cost.choice for cost in costs) / rows),
            ]
        )
    columns = ["indexes", "rows", "batches", "buffers a row", "worst batch", "of the choice"]
    bench.show("five nights of emails and text messages", columns, table)


def _measures(found: Found) -> list[Measure]:
    measures = []
    for indexes in INDEXES:
        with_kept, without = found[indexes, True], found[indexes, False]
        worst = max(one.per_row / other.per_row for one, other in zip(with_kept, without, strict=False))
        same = sum(cost.rows for cost in with_kept) / sum(cost.rows for cost in without)
        measures += [
            Measure(f"{indexes}: the worst batch with kept rows over the same one without", worst, at_most=1.5),
            Measure(f"{indexes}: rows moved over those without kept rows", same, at_least=1, at_most=1, is_count=True),
        ]
    return measures
