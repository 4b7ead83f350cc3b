"""What one batch's choice reads for a service of 30,000 rows, as the table grows around it and before it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from app import clock
from app.dao import notifications_dao
from app.dao.notifications_dao import REAL, Scope
from app.db import db
from benchmarks import connections, reference
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import BUFFERS, CHOICE
from benchmarks.platform import NAMESPACE
from benchmarks.product import product
from dev.product import migrate

ROWS_OF_THE_SERVICE = 30_000
SIZES = (300_000, 3_000_000, 10_000_000)
OTHERS = 500
BATCH = 10_000
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
BETWEEN_ROWS = timedelta(milliseconds=250)

# The services of 30,000 rows are spread evenly: one over the first 300,000 rows, one over 3 million, one over all.
FILL = """
INSERT INTO notifications
    (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version,
     created_at, reference, _personalisation)
SELECT md5(i::text)::uuid, 'person@example.org',
       CASE WHEN i %% %(every1)s = 0 AND i <= %(size1)s THEN %(service1)s::uuid
            WHEN i %% %(every2)s = 1 AND i <= %(size2)s THEN %(service2)s::uuid
            WHEN i %% %(every3)s = 2 THEN %(service3)s::uuid
            ELSE (%(others)s::uuid[])[1 + (hashint8extended(i, 1) & 1023) %% %(count)s] END,
       'normal', 'email', 'delivered', '00000000-0000-0000-0000-000000000000', 1,
       %(beginning)s::timestamp + i * %(between)s::interval, md5(i::text), repeat('p', 300)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
"""
SERVICES = """
INSERT INTO services (id, name, created_at) SELECT id, id::text, now() FROM unnest(%(ids)s::uuid[]) AS id
"""
# The ones that no plan of a choice could use would only take time.
OTHER_INDEXES = """
SELECT string_agg(format('%I', indexname), ', ') FROM pg_indexes
WHERE tablename = 'notifications' AND indexdef NOT LIKE '%created_at%' AND indexname <> 'notifications_pkey'
"""


@dataclass(frozen=True)
class Spread:
    """The services that are measured, a size each, at a scale."""

    scale: float

    @property
    def sizes(self) -> list[int]:
        return [int(size * self.scale) for size in SIZES]

    @property
    def services(self) -> list[UUID]:
        return [uuid5(NAMESPACE, f"spread over {size}") for size in SIZES]

    @property
    def batch(self) -> int:
        return int(BATCH * self.scale)

    def values(self, first: int, last: int) -> dict[str, Any]:
        others = [str(uuid5(NAMESPACE, f"other {number}")) for number in range(OTHERS)]
        values = {"others": others, "count": OTHERS, "first": first, "last": last}
        values |= {"beginning": clock.to_column(BEGINNING), "between": BETWEEN_ROWS}
        for number, (size, service) in enumerate(zip(self.sizes, self.services, strict=True), start=1):
            every = size // int(ROWS_OF_THE_SERVICE * self.scale)
            values |= {f"size{number}": size, f"every{number}": every, f"service{number}": str(service)}
        return values


def run(bench: Bench) -> list[Measure]:
    spread = Spread(bench.scale)
    url = bench.empty_database("flat")
    migrate(url)
    found: dict[int, list[tuple[int, int]]] = {}
    with ExitStack() as ends:
        ends.callback(bench.drop_database, "flat")
        connection = ends.enter_context(connections.owner(url))
        for size in _growing(connection, spread):
            bench.say(f"{size:,} rows")
            found[size] = _choices(url, connection, spread, size)
    return _report(bench, spread, found)


def _growing(connection: Any, spread: Spread) -> Iterator[int]:
    """One table, grown from size to size in the order of time."""
    values = spread.values(0, 0)
    ids = [*values["others"], *map(str, spread.services)]
    connections.run(connection, "CREATE EXTENSION pg_stat_statements")
    connections.run(connection, SERVICES, {"ids": ids})
    connections.run(connection, f"DROP INDEX {connections.scalar(connection, OTHER_INDEXES)}")
    # Buffers are counted: neither WAL nor checks of what is right by construction change them.
    connections.run(connection, "ALTER TABLE notifications SET UNLOGGED")
    connections.run(connection, "SET session_replication_role = replica")
    so_far = 0
    for size in spread.sizes:
        connections.run(connection, FILL, spread.values(so_far + 1, size))
        connections.run(connection, "VACUUM (ANALYZE) notifications")
        so_far = size
        yield size


def _choices(url: str, connection: Any, spread: Spread, size: int) -> list[tuple[int, int]]:
    """Buffers of a batch's choice for each service that is all there: the reference's, and ours."""
    cutoff = BEGINNING + size * BETWEEN_ROWS * 0.9
    found = []
    for service, needed in zip(spread.services, spread.sizes, strict=True):
        if needed <= size:
            found.append(
                (_reference(connection, spread, service, cutoff), _ours(url, connection, spread, service, cutoff))
            )
    return found


def _reference(connection: Any, spread: Spread, service: UUID, cutoff: datetime) -> int:
    values = {
        "service_id": str(service),
        "notification_type": "email",
        "cutoff": clock.to_column(cutoff),
        "limit": spread.batch,
    }
    connections.run(connection, "SELECT pg_stat_statements_reset()")
    connections.run(connection, "BEGIN")
    connections.run(connection, reference.TAKE, values)
    connections.run(connection, "ROLLBACK")
    return int(connections.scalar(connection, BUFFERS, {"like": CHOICE}))


def _ours(url: str, connection: Any, spread: Spread, service: UUID, cutoff: datetime) -> int:
    connections.run(connection, "SELECT pg_stat_statements_reset()")
    scope = Scope(service, "email", REAL, created_before=cutoff)
    with product(url) as app, app.app_context(), db.engine.connect() as own:
        batch = notifications_dao.take_messages(own, scope, spread.batch)
        own.rollback()
    assert batch.rows == spread.batch
    return int(connections.scalar(connection, BUFFERS, {"like": CHOICE}))


def _report(bench: Bench, spread: Spread, found: dict[int, list[tuple[int, int]]]) -> list[Measure]:
    rows = []
    for size, choices in found.items():
        spread_over_all, first = choices[-1], choices[0]
        rows.append([f"{size:,}", *(shown(value) for value in (*spread_over_all, *first))])
    columns = ["rows", "reference", "ours", "reference", "ours"]
    title = f"buffers of a choice of {spread.batch:,}: service spread over all rows; over the first {spread.sizes[0]:,}"
    bench.show(title, columns, rows)
    over_all = [choices[-1][1] for choices in found.values()]
    around = [choices[0][1] for choices in found.values()]
    return [
        Measure("spread over all rows, most over fewest", max(over_all) / min(over_all), at_most=1.1, is_count=True),
        Measure("the table grows around it, most over fewest", max(around) / min(around), at_most=1.1, is_count=True),
        Measure("reference, spread over all rows, most over fewest", _growth([c[-1][0] for c in found.values()])),
        Measure("ours, buffers a row at the largest size", over_all[-1] / spread.batch),
    ]


def _growth(buffers: list[int]) -> float:
    return max(buffers) / min(buffers)
