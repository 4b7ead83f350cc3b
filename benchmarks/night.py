"""A whole night through real Celery workers: emails, text messages and letters of many services, to the end."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any
from uuid import UUID

from app import clock
from app.retention.cutoffs import cutoff
from app.retention.tools import tools
from benchmarks import connections, reference
from benchmarks.bench import Bench
from benchmarks.letter_data import (
    DAYS_OF_RETENTION,
    LETTERS_BUCKET,
    SERVICE_ROWS,
    insert_letters,
    overdue_day,
    put_files_of_all,
)
from benchmarks.measures import Measure, shown
from benchmarks.night_run import NightRun, Records, night_run
from benchmarks.platform import FILL_NOTIFICATIONS, NOTIFICATIONS, SEED, SERVICES, Platform, fill_without_indexes
from benchmarks.product import product
from benchmarks.s3_server import s3_server
from benchmarks.schema import empty_platform
from dev.stack import BUCKETS

MESSAGES, LETTERS = 1_000_000, 100_000
SHARE_OF_LETTERS = 51 / 1024
"""As the platform's rows are dealt."""
DAYS_OVERDUE, DAYS_KEPT = 3.0, 1.0
SHARE_OF_REAL = 0.97
ALL_ROWS = MESSAGES / (1 - SHARE_OF_LETTERS) / SHARE_OF_REAL * (DAYS_OVERDUE + DAYS_KEPT) / DAYS_OVERDUE
LEAST_SERVICES = 20
SAMPLE, SAMPLE_SMALL = 1_000, 40
"""Letters of the reference."""
SHARE_OF_SMALL = 0.2
"""Of the small form's rows and services: a step costs the same however few its rows are."""
LETTERS_OF_A_SAMPLED_SERVICE = 50
MOST_SECONDS = 420
PROCESSES = 2
BUCKETS_OF_LETTERS = (LETTERS_BUCKET, BUCKETS["S3_BUCKET_TEST_LETTERS"])
MEBIBYTE = 1024 * 1024

OVERDUE = """
SELECT count(*) FILTER (WHERE notification_type <> 'letter' AND key_type <> 'test'),
       count(*) FILTER (WHERE notification_type = 'letter' AND key_type <> 'test' AND notification_status <> 'created'),
       count(*) FILTER (WHERE key_type = 'test' AND (notification_type <> 'letter' OR notification_status <> 'created'))
FROM notifications WHERE created_at < %(cutoff)s
"""
WITH_LETTERS = """
SELECT service_id FROM notifications
WHERE notification_type = 'letter' AND key_type <> 'test' AND created_at < %(cutoff)s
GROUP BY service_id HAVING count(*) >= %(least)s ORDER BY count(*) DESC, service_id LIMIT %(limit)s
"""
IS_OVER = """
SELECT count(*) FILTER (WHERE fanned_out_at IS NOT NULL) = 3
       AND NOT EXISTS (SELECT FROM retention.chains WHERE state = 'waiting')
FROM retention.run_types
"""
STEPS = """
SELECT coalesce(sum(moved + deleted), 0)::bigint, count(*),
       count(*) FILTER (WHERE moved + deleted = 0 AND outcome = 'nothing'),
       count(*) FILTER (WHERE outcome IN ('Indexing', 'IndexAwaited')),
       (SELECT count(*) FROM retention.chains)
FROM retention.steps
"""
LETTERS_THERE = "SELECT count(*) FROM notifications WHERE notification_type = 'letter'"
HISTORY = "SELECT count(*) FROM notification_history"


@dataclass(frozen=True)
class Overdue:
    """Rows past their retention: real messages, real letters that are final, test notifications."""

    messages: int
    letters: int
    test: int


@dataclass(frozen=True)
class Steps:
    """The night's steps: the rows that they removed, how many found nothing, and how many saw to an index."""

    rows: int
    all: int
    empty: int
    for_index: int
    chains: int


@dataclass(frozen=True)
class Ours:
    """The night as the product did it."""

    records: Records
    left: Overdue
    history: int
    steps: Steps
    requests: Counter[str]
    files_left: int


def run(bench: Bench) -> list[Measure]:
    with empty_platform(bench, "night") as url:
        bench.say("filling a night")
        before = _fill(bench, url)
        other = bench.server.create_database("night_of_reference", template=url.rpartition("/")[2])
        try:
            ours = _ours(bench, url)
            messages, letters = _reference(bench, other, before)
        finally:
            bench.drop_database("night_of_reference")
    seconds = messages.seconds + letters
    rows = [
        _row("reference, emails and texts", before.messages, messages),
        ["reference, letters (a sample, scaled)", shown(before.letters), "", shown(letters), "", "", ""],
        _row("ours, all", before.messages + before.letters + before.test, ours.records),
    ]
    title = (
        f"{before.messages:,} emails and texts, {before.letters:,} letters, {len(_platform(bench).services):,} services"
    )
    columns = ["a night, two worker processes", "rows", "tasks", "seconds", "in SQL, s", "in S3, s", "in tasks, s"]
    bench.show(title, columns, rows)
    records = ours.records
    left = ours.left.messages + ours.left.letters + ours.left.test
    return [
        Measure("times faster than the reference", seconds / records.seconds, at_least=5),
        Measure("the same without letters' files", messages.seconds / records.seconds),
        Measure("share of the tasks' time outside SQL and S3", records.share_outside, at_most=0.15),
        Measure("share of the processes' time without a task", 1 - records.busy / (PROCESSES * records.seconds)),
        Measure("peak memory of a worker process", records.peak / MEBIBYTE, at_most=150, unit="MiB"),
        Measure("growth after its first quarter of tasks", records.growth / MEBIBYTE, at_most=10, unit="MiB"),
        Measure("messages a step: more than one where some came twice", len(records.all) / ours.steps.all),
        Measure("steps that found nothing, a chain", ours.steps.empty / ours.steps.chains),
        Measure("steps that listed a folder or waited for it, a chain", ours.steps.for_index / ours.steps.chains),
        Measure("requests to S3 a step with letters", ours.requests.total() / max(1, ours.requests["versioning"])),
        _exactly("overdue rows left", left, 0),
        _exactly("rows in history over real rows overdue", ours.history / (before.messages + before.letters), 1),
        _exactly(
            "rows counted by steps over rows that left",
            ours.steps.rows / (before.messages + before.letters + before.test),
            1,
        ),
        _exactly("files of overdue letters left", ours.files_left, 0),
    ]


def _exactly(name: str, value: float, target: float) -> Measure:
    return Measure(name, value, at_least=target, at_most=target, is_count=True)


def _row(name: str, rows: int, records: Records) -> list[str]:
    spent = [sum(of) for of in zip(*((one.sql, one.s3, one.seconds) for one in records.all), strict=True)]
    return [name, *map(shown, (rows, len(records.all), records.seconds, *spent))]


def _scale(bench: Bench) -> float:
    return bench.scale * (SHARE_OF_SMALL if bench.small else 1)


class Night(Platform):
    """Rows and services shrink alike: a step costs the same however few its rows are."""

    @cached_property
    def services(self) -> list[UUID]:
        return super().services[: max(LEAST_SERVICES, int(SERVICES * self.scale * NOTIFICATIONS / ALL_ROWS))]


def _platform(bench: Bench) -> Platform:
    return Night("night", ALL_ROWS * _scale(bench) / NOTIFICATIONS)


def _cutoff() -> datetime:
    settings = tools().settings
    return cutoff(clock.local_date(clock.now(), settings.zone), DAYS_OF_RETENTION, settings)


def _fill(bench: Bench, url: str) -> Overdue:
    """Rows in the order of their creation, then letters up to their number, in the same days."""
    platform = _platform(bench)
    with product(url) as app, connections.owner(url) as connection, app.app_context():
        before = _cutoff()
        ids = [str(service) for service in platform.services]
        values = {"ids": ids, "shares": platform.shares, "seed": SEED, "salt": "night", "rows": platform.notifications}
        bounds = {"oldest": before - timedelta(days=DAYS_OVERDUE), "newest": before + timedelta(days=DAYS_KEPT)}
        connections.run(connection, "SET timezone = 'UTC'")
        connections.run(connection, SERVICE_ROWS, {"ids": ids})
        fill_without_indexes(connection, "notifications", FILL_NOTIFICATIONS, values | bounds)
        missing = LETTERS * _scale(bench) - _overdue(connection, before).letters
        shares = [high - low for low, high in pairwise([0.0, *platform.shares, 1.0])]
        counts = [ceil(missing / DAYS_OVERDUE * share) for share in shares]
        for number in range(int(DAYS_OVERDUE)):
            insert_letters(connection, dict(zip(platform.services, counts, strict=True)), overdue_day(number))
        connections.run(connection, "VACUUM (ANALYZE)")
        return _overdue(connection, before)


def _overdue(connection: Any, before: datetime) -> Overdue:
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, {"cutoff": clock.to_column(before)})
        return Overdue(*cursor.fetchone())


def _ours(bench: Bench, url: str) -> Ours:
    with (
        s3_server() as server,
        product(url, aws_endpoint_url_s3=server.url) as app,
        connections.owner(url) as connection,
        app.app_context(),
    ):
        put_files_of_all(connection, server)
        bench.checkpoint()
        with night_run(url, server, with_beat=True, quick=bench.small) as night:
            night.send("delete-notifications-older-than-retention")
            _wait(bench, night, lambda: connections.scalar(connection, IS_OVER))
            records = night.take_records()
        with connection.cursor() as cursor:
            cursor.execute(STEPS)
            steps = Steps(*cursor.fetchone())
        files = sum(server.count(bucket) for bucket in BUCKETS_OF_LETTERS)
        return Ours(
            records,
            _overdue(connection, _cutoff()),
            connections.scalar(connection, HISTORY),
            steps,
            server.take_requests(),
            files - connections.scalar(connection, LETTERS_THERE),
        )


def _reference(bench: Bench, url: str, overdue: Overdue) -> tuple[Records, float]:
    """What it did for emails and text messages, and the seconds that two workers would take for the letters."""
    sample = SAMPLE_SMALL if bench.small else SAMPLE
    with (
        s3_server() as server,
        product(url, aws_endpoint_url_s3=server.url) as app,
        connections.owner(url) as connection,
        app.app_context(),
    ):
        before = _cutoff()
        reference.add_foreign_keys(connection)
        put_files_of_all(connection, server)
        bench.checkpoint()
        with night_run(url, server, with_beat=False, quick=bench.small) as night:
            night.send("reference-night", before.isoformat())
            _wait(bench, night, lambda: True)
            messages = night.take_records()
            each = min(LETTERS_OF_A_SAMPLED_SERVICE, sample // 4)
            values = {"cutoff": clock.to_column(before), "least": each, "limit": sample // each}
            with connection.cursor() as cursor:
                cursor.execute(WITH_LETTERS, values)
                services = [str(row[0]) for row in cursor.fetchall()]
            night.send("reference-letters-of", services, before.isoformat(), each)
            _wait(bench, night, lambda: True)
            letters = night.take_records()
    return messages, letters.busy / PROCESSES * overdue.letters / (len(services) * each)


def _wait(bench: Bench, night: NightRun, is_over: Callable[[], bool]) -> None:
    if not night.wait(is_over, MOST_SECONDS):
        bench.say(f"NOT finished after {MOST_SECONDS} s: what follows is of the part that was")
