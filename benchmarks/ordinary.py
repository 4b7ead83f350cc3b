"""The ordinary night: many services with a few emails each, through two worker processes, against plain SQL.

The reference is the largest public platform's method on two connections, without Celery: the messages that it would
send for each service, and again for each service's test notifications, are not even counted.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from queue import Empty, Queue
from time import perf_counter
from typing import Any
from uuid import UUID, uuid5

from app import clock
from app.retention import nightly
from app.retention.cutoffs import cutoff
from app.retention.tools import tools
from benchmarks import connections, reference
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import WAL, Task
from benchmarks.night_run import night_run
from benchmarks.platform import DAYS_OF_RETENTION, NAMESPACE, SERVICE_ROWS, fill_without_indexes
from benchmarks.product import product
from benchmarks.reference import Reference
from benchmarks.s3_server import s3_server
from benchmarks.schema import empty_platform

NIGHTS = ((1_500, 12, 4.0), (20_000, 3, 12.0))
"""Services, overdue emails of each, and how many times faster than the reference it is to be."""
CONNECTIONS = 2
DAYS_KEPT = 7
MOST_SECONDS = 300
TYPES = ("email", "sms", "letter")

# As many rows again are not overdue, for each of the days that they are kept: a night finds its own among others. One
# in twenty is made with a test key.
ROWS = """
INSERT INTO notifications (id, service_id, notification_type, key_type, notification_status, created_at, updated_at,
                           reference, template_id, template_version, job_id, job_row_number, billable_units, "to",
                           normalised_to, _personalisation)
SELECT md5('ordinary' || i)::uuid, ids[1 + (hashint8(i) & 2147483647) %% cardinality(ids)], 'email',
       CASE WHEN i %% 20 = 1 THEN 'test' ELSE 'normal' END, 'delivered', at, at + interval '9 s', md5(i || 'r'),
       md5((i %% 500)::text)::uuid, 1, md5((i / 1000)::text)::uuid, i %% 1000, 1,
       'person' || i || '@example.org', 'person' || i || '@example.org', repeat('p', 150)
FROM (
    SELECT i, %(ids)s::uuid[] AS ids,
           %(first)s::timestamp + (%(last)s::timestamp - %(first)s::timestamp) * (i::float8 / %(rows)s) AS at
    FROM generate_series(1, %(rows)s::bigint) AS i
) AS dealt
ORDER BY at
"""
OVERDUE = "SELECT count(*) FROM notifications WHERE created_at < %(cutoff)s"
HISTORY = "SELECT count(*) FROM notification_history"
IS_OVER = """
SELECT EXISTS (SELECT FROM retention.run_types WHERE fanned_out_at IS NOT NULL)
   AND NOT EXISTS (SELECT FROM retention.chains WHERE state = 'waiting')
"""
TRANSACTIONS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True)
class Night:
    """What a method did: seconds, WAL, and its transactions."""

    rows: int
    seconds: float
    wal: int
    transactions: int


def run(bench: Bench) -> list[Measure]:
    measures: list[Measure] = []
    table = []
    for services, rows, target in NIGHTS:
        services = max(20, int(services * bench.scale))
        bench.say(f"{services:,} services with {rows} emails each")
        ours, theirs, opening = _night(bench, services, rows)
        name = f"{services:,} services × {rows} rows"
        for method, night in (("reference, two connections", theirs), ("ours, two worker processes", ours)):
            table.append(
                [
                    f"{name}: {method}",
                    shown(night.rows),
                    shown(night.seconds),
                    shown(night.rows / night.seconds),
                    shown(night.transactions),
                    shown(night.wal / night.rows),
                ]
            )
        measures += [
            Measure(f"{name}: times faster than the reference", theirs.seconds / ours.seconds, at_least=target),
            Measure(f"{name}: opening a run of three types", opening, at_most=3.0, unit="s"),
            Measure(
                f"{name}: rows moved over the reference's",
                ours.rows / theirs.rows,
                at_least=1,
                at_most=1,
                is_count=True,
            ),
        ]
        if rows == NIGHTS[0][1]:
            measures.append(Measure(f"{name}: transactions, heartbeats and all", ours.transactions, at_most=40))
    columns = ["a night", "rows", "seconds", "rows/s", "transactions", "WAL bytes/row"]
    bench.show("one night's emails of many services", columns, table)
    return measures


def _night(bench: Bench, services: int, rows: int) -> tuple[Night, Night, float]:
    with ExitStack() as ends:
        template = ends.enter_context(empty_platform(bench, "ordinary"))
        ids = [uuid5(NAMESPACE, f"ordinary {number}") for number in range(services)]
        _fill(template, ids, rows)
        urls = [ends.enter_context(bench.copy_of(template, method)) for method in ("ours", "reference", "opening")]
        with connections.owner(urls[1]) as connection:
            reference.add_foreign_keys(connection)
        bench.checkpoint()
        theirs = _reference(urls[1])
        bench.checkpoint()
        ours = _ours(urls[0])
        bench.checkpoint()
        return ours, theirs, _opening(urls[2])


def _fill(url: str, ids: list[UUID], rows: int) -> None:
    with product(url) as app, app.app_context(), connections.owner(url) as connection:
        before = _cutoff()
        connections.run(connection, "SET timezone = 'UTC'")
        connections.run(connection, SERVICE_ROWS, {"ids": [str(service) for service in ids]})
        values = {
            "ids": [str(service) for service in ids],
            "first": clock.to_column(before - timedelta(days=1)),
            "last": clock.to_column(before + timedelta(days=DAYS_KEPT)),
            "rows": len(ids) * rows * (DAYS_KEPT + 1),
        }
        fill_without_indexes(connection, "notifications", ROWS, values)
        connections.run(connection, "VACUUM (ANALYZE)")


def _tonight() -> date:
    return clock.local_date(clock.now(), tools().settings.zone)


def _cutoff() -> datetime:
    return cutoff(_tonight(), DAYS_OF_RETENTION, tools().settings)


def _measured(url: str, work: Callable[[Any], float]) -> Night:
    """Do the work, which says how long it took; the connection that it is given is not counted."""
    with connections.owner(url) as watch, product(url) as app, app.app_context():
        values = {"cutoff": clock.to_column(_cutoff())}
        overdue = connections.scalar(watch, OVERDUE, values)
        wal, transactions = connections.scalar(watch, WAL), _transactions(watch)
        seconds = work(watch)
        wal = connections.scalar(watch, WAL) - wal
        transactions = _transactions(watch) - transactions
        left = connections.scalar(watch, OVERDUE, values)
        if left:
            raise RuntimeError(f"{left} of {overdue} rows are left")
        return Night(connections.scalar(watch, HISTORY), seconds, int(wal), transactions)


def _transactions(watch: Any) -> int:
    connections.run(watch, "SELECT pg_stat_force_next_flush()")
    return int(connections.scalar(watch, TRANSACTIONS))


def _ours(url: str) -> Night:
    def work(watch: Any) -> float:
        with s3_server() as server, night_run(url, server, with_beat=False, quick=False) as night:
            night.send("delete-email-notifications")
            looks = 0

            def is_over() -> bool:
                nonlocal looks
                looks += 1
                return bool(connections.scalar(watch, IS_OVER))

            if not night.wait(is_over, MOST_SECONDS):
                raise RuntimeError("the night is not over")
            looked.append(looks)
            return night.take_records().seconds

    looked: list[int] = []
    night = _measured(url, work)
    own = looked[0] + 4  # what this benchmark asked
    return Night(night.rows, night.seconds, night.wal, night.transactions - own)


def _reference(url: str) -> Night:
    def work(_watch: Any) -> float:
        before = _cutoff()
        began = perf_counter()
        with connections.owner(url) as connection, connection.cursor() as cursor:
            values = {"notification_type": "email", "cutoff": clock.to_column(before)}
            cursor.execute(reference.DISCOVERY, values)
            tasks: Queue[Task] = Queue()
            for (service,) in cursor.fetchall():
                tasks.put(Task(UUID(service), "email", before))
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(lambda _: _drain(url, tasks), range(CONNECTIONS)))
        return perf_counter() - began

    return _measured(url, work)


def _drain(url: str, tasks: "Queue[Task]") -> None:
    with connections.owner(url, autocommit=False) as connection:
        method = Reference(connection)
        while True:
            try:
                task = tasks.get_nowait()
            except Empty:
                return
            sum(method.batches(task))
            method.delete_test(task)


def _opening(url: str) -> float:
    """Seconds until a run of all types is open."""
    with product(url) as app, app.app_context():
        began = perf_counter()
        nightly.start_run()
        for kind in TYPES:
            nightly.fan_out(kind)
        return perf_counter() - began
