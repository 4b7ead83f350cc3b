"""History to a verified archive, against an hour at a time to ORC, a count and one DELETE; and finding a row in it."""

import logging
import multiprocessing
import os
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import boto3
import structlog
from sqlalchemy import create_engine, event, text

from app.archive import using, work
from app.archive.tools import tools
from app.archive.windows import HOUR, window_of
from app.db import db
from benchmarks import connections
from benchmarks.archive_reference import Reference, pyorc
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.product import product
from dev.environment import replaced_environment
from dev.product import migrate
from dev.s3 import EmbeddedS3
from tests.archives import OLD, many

ROWS = 1_000_000
"""At scale 1."""
HOURS = 5
SERVICES = 200
BUCKET = "archive-of-the-benchmark"
BYTES_OF_PROCESS = 300 * 1024 * 1024
FINDS = 5
SPAWN = multiprocessing.get_context("spawn")
COUNT = "SELECT count(*) FROM notification_history"
SAMPLE = "SELECT id, created_at FROM notification_history ORDER BY md5(id::text) LIMIT %s"


def run(bench: Bench) -> list[Measure]:
    rows = max(HOURS * 1_000, int(ROWS * bench.scale))
    with TemporaryDirectory() as directory:
        s3 = EmbeddedS3(Path(directory)).start()
        try:
            s3.create_buckets([BUCKET])
            with replaced_environment({**os.environ, **s3.environment}):
                return _run(bench, s3, rows)
        finally:
            s3.stop()


def _run(bench: Bench, s3: EmbeddedS3, rows: int) -> list[Measure]:
    hours = [OLD + timedelta(days=day) for day in range(HOURS)]
    url = bench.empty_database("archive")
    migrate(url)
    bench.say(f"filling history: {rows:,} rows in {HOURS} hours of as many days")
    _fill(url, hours, rows)
    with connections.owner(url) as owner, owner.cursor() as cursor:
        cursor.execute(SAMPLE, (FINDS,))
        sample = cursor.fetchall()
    reference = Reference()
    if pyorc() is not None:
        with bench.copy_of(url, "reference") as other, connections.owner(other, autocommit=False) as connection:
            bench.checkpoint()
            bench.say("archiving: reference")
            client = boto3.client("s3")
            for hour in hours:
                reference.archive(connection, client, BUCKET, hour.replace(tzinfo=None))
    bench.checkpoint()
    bench.say("archiving: ours")
    done = _in_a_process(url, s3.environment)
    with connections.owner(url) as owner:
        left = connections.scalar(owner, COUNT)
    found = _find(url, s3.environment, sample)
    _show(bench, reference, done)
    return _measures(rows, left, reference, done, found)


def _fill(url: str, hours: list[datetime], rows: int) -> None:
    services = [uuid4() for _ in range(SERVICES)]
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for hour in hours:
            many(connection, services, rows // HOURS, hour, HOUR)
        connection.execute(text("VACUUM ANALYZE notification_history"))
    engine.dispose()


def _settings() -> dict[str, object]:
    return {"s3_bucket_archive": BUCKET, "archive_window": "hour"}


def _in_a_process(url: str, environment: dict[str, str]) -> dict[str, float]:
    """All turns, in a process that does nothing else, whose memory is its own."""
    ours, its = SPAWN.Pipe()
    process = SPAWN.Process(target=_archive, args=(its, url, environment), daemon=True)
    process.start()
    its.close()
    done: dict[str, float] = ours.recv()
    process.join()
    return done


def _archive(pipe: Connection, url: str, environment: dict[str, str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with replaced_environment({**os.environ, **environment}), product(url, **environment, **_settings()) as app:
        longest = _Longest()
        event.listen(app.extensions["db.engine"], "begin", longest.begin)
        for name in ("commit", "rollback"):
            event.listen(app.extensions["db.engine"], name, longest.end)
        began = perf_counter()
        with app.app_context():
            while work.take_turn(tools()).more:
                pass
            taken = perf_counter() - began
            with db.engine.connect() as connection:
                totals = connection.exec_driver_sql(
                    "SELECT sum(removed), sum(bytes), count(*) FROM retention.archives WHERE state = 'done'"
                ).one()
        names = ("rows", "bytes", "files")
        counted = dict(zip(names, map(float, totals), strict=True))
        pipe.send({**counted, "seconds": taken, "longest": longest.seconds, "memory": _peak_bytes()})


def _peak_bytes() -> float:
    """Of this process alone: what getrusage says begins with the process that started it."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024


class _Longest:
    """The seconds of the longest transaction of the one connection."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = perf_counter()

    def begin(self, _connection: Any) -> None:
        self._began = perf_counter()

    def end(self, _connection: Any) -> None:
        self.seconds = max(self.seconds, perf_counter() - self._began)


def _find(url: str, environment: dict[str, str], sample: list[tuple[Any, datetime]]) -> dict[str, float]:
    """Medians: with the window known, the share of all bytes that was read; without, that share and the seconds."""
    known, unknown, seconds = [], [], []
    with product(url, **environment, **_settings()) as app, app.app_context():
        everything = sum(archive.bytes or 0 for archive in using.in_window(tools(), None))
        for id_, created_at in sample:
            window = window_of(created_at.replace(tzinfo=OLD.tzinfo), HOUR)
            there = using.find(tools(), "id", str(id_), window)
            began = perf_counter()
            anywhere = using.find(tools(), "id", str(id_))
            seconds.append(perf_counter() - began)
            assert [row["id"] for row in there.rows] == [row["id"] for row in anywhere.rows] == [UUID(str(id_))]
            known.append(there.bytes_read / everything)
            unknown.append(anywhere.bytes_read / everything)
    return {"known": median(known), "unknown": median(unknown), "seconds": median(seconds)}


def _show(bench: Bench, reference: Reference, done: dict[str, float]) -> None:
    table = []
    theirs = (reference.rows, reference.seconds, reference.longest, reference.size)
    for name, (rows, seconds, longest, size) in (
        ("reference", theirs),
        ("ours", (done["rows"], done["seconds"], done["longest"], done["bytes"])),
    ):
        if rows:
            table.append([name, shown(rows), shown(rows / seconds), shown(longest), shown(size / rows)])
    columns = ["", "rows", "rows/s, read-back included", "longest transaction, s", "bytes a row"]
    bench.show(f"history of {HOURS} hours", columns, table)


def _measures(
    rows: int, left: int, reference: Reference, done: dict[str, float], found: dict[str, float]
) -> list[Measure]:
    measures = [
        Measure("rows neither in the table nor in a file", rows - left - done["rows"], at_most=0, is_count=True),
        Measure("rows left in the table", left, at_most=0, is_count=True),
        Measure("rows archived", done["rows"]),
        Measure("rows a second, read-back included", done["rows"] / done["seconds"]),
        Measure("bytes a row", done["bytes"] / done["rows"]),
        Measure("longest transaction", done["longest"], unit="s"),
        Measure("peak memory of the process, MiB", done["memory"] / 1024**2, at_most=BYTES_OF_PROCESS / 1024**2),
        Measure("share of the bytes read by a find, hour known", found["known"], at_most=0.05),
        Measure("share of the bytes read by a find, hour not known", found["unknown"]),
        Measure("a find, hour not known", found["seconds"], at_most=10, unit="s"),
    ]
    if reference.rows:
        ours, theirs = done["rows"] / done["seconds"], reference.rows / reference.seconds
        measures += [
            Measure("rows a second over the reference's", ours / theirs, at_least=5),
            Measure("longest transaction over the reference's", done["longest"] / reference.longest, at_most=0.1),
            Measure(
                "bytes a row over the reference's",
                (done["bytes"] / done["rows"]) / (reference.size / reference.rows),
                at_most=0.8,
            ),
        ]
    return measures
