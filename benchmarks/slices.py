"""Two workers on one service, each a process of its own, against one; and how the floor itself scales."""

import logging
import multiprocessing
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from queue import Empty
from time import perf_counter
from typing import Any

import structlog

from app.db import db
from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.floor import Floor
from benchmarks.measures import Measure, shown
from benchmarks.methods import Task, median, warm
from benchmarks.product import Ours, product

SERVICES = 2
TYPES = ("email", "sms")
FLOOR_ROWS = 10_000
WORKERS = (1, 2)
SECONDS_TO_WAIT = 300
SECONDS_OF_QUIET = 1.0
COUNTS = """
SELECT (SELECT count(*) FROM notifications), (SELECT count(*) FROM notification_history),
       (SELECT coalesce(sum(moved), 0)::bigint FROM retention.steps)
"""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])  # what is imported once need not be by each worker


@dataclass
class Shared:
    """What a method did with so many workers."""

    rows: int = 0
    seconds: float = 0.0
    rates: list[float] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def run(bench: Bench) -> list[Measure]:
    tasks = [
        Task(service, kind, bench.platform.cutoff)
        for service in bench.platform.services[: 1 if bench.small else SERVICES]
        for kind in (TYPES[:1] if bench.small else TYPES)
    ]
    with ExitStack() as ends:
        urls = {(n, w): ends.enter_context(bench.copy(f"{n}{w}")) for n in ("ours", "floor") for w in WORKERS}
        before = _counts(urls["ours", 2])
        shared = {key: Shared() for key in urls}
        bench.checkpoint()
        for number, task in enumerate(tasks):
            for key in sorted(urls, reverse=bool(number % 2)):
                _share(shared[key], key, urls[key], task, rows_per_slice=_rows_per_slice(bench))
        after = _counts(urls["ours", 2])
    table = [
        [f"{name}, {workers}", shown(one.rows), shown(one.rows_per_second), ", ".join(map(shown, one.rates))]
        for (name, workers), one in shared.items()
    ]
    bench.show("the largest services", ["method and workers", "rows", "rows/s", "by service and type"], table)
    ours, floor = (_gain(shared[name, 1], shared[name, 2]) for name in ("ours", "floor"))
    moved = after[2] - before[2]
    return [
        Measure("ours, two workers over one", ours),
        Measure("the floor, two sessions over one", floor),
        Measure("how ours scales over how the floor does", ours / floor, at_least=0.95),
        _exactly("rows moved by two workers over one's", moved / shared["ours", 1].rows),
        _exactly("rows that left over rows counted as moved", (before[0] - after[0]) / moved),
        _exactly("rows that came to history over rows that left", (after[1] - before[1]) / (before[0] - after[0])),
    ]


def _gain(one: Shared, two: Shared) -> float:
    """The median, over services and types, of what two workers gain."""
    return median([with_two / with_one for with_one, with_two in zip(one.rates, two.rates, strict=True)])


def _exactly(name: str, value: float) -> Measure:
    return Measure(name, value, at_least=1.0, at_most=1.0, is_count=True)


def _rows_per_slice(bench: Bench) -> int:
    return max(100, int(100_000 * bench.scale))


def _counts(url: str) -> tuple[int, int, int]:
    with connections.owner(url) as connection, connection.cursor() as cursor:
        cursor.execute(COUNTS)
        return tuple(cursor.fetchone())


def _share(shared: Shared, key: tuple[str, int], url: str, task: Task, rows_per_slice: int) -> None:
    """Start the workers, then let them begin together; timed until the last of them has moved its last row."""
    name, workers = key
    begin, seconds = PROCESSES.Barrier(workers), PROCESSES.Queue()
    with connections.owner(url) as connection:
        warm(connection, task, None)
    before = _counts(url)[0]
    if name == "ours":
        queue = PROCESSES.Queue()
        with product(url, rows_per_slice=rows_per_slice) as app:
            for wake in Ours(app).open(task):
                queue.put(wake)
        arguments: list[tuple[Any, ...]] = [(url, queue, begin, seconds)] * workers
    else:
        arguments = [(url, task, part, workers, begin, seconds) for part in range(workers)]
    processes = [PROCESSES.Process(target=_ours if name == "ours" else _floor, args=given) for given in arguments]
    for process in processes:
        process.start()
    longest = max(seconds.get(timeout=SECONDS_TO_WAIT) for _ in processes)
    for process in processes:
        process.join(SECONDS_TO_WAIT)
    rows = before - _counts(url)[0]
    shared.rows += rows
    shared.seconds += longest
    shared.rates.append(rows / longest)


def _ours(url: str, queue: Any, begin: Any, seconds: Any) -> None:
    """A worker: takes wake-ups from the queue, does their steps, and puts what comes next."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with product(url) as app:
        ours = Ours(app)
        with app.app_context(), db.engine.connect():
            begin.wait(SECONDS_TO_WAIT)
        began = ended = perf_counter()
        with suppress(Empty):
            while True:
                for wake in ours.step(queue.get(timeout=SECONDS_OF_QUIET)):
                    queue.put(wake)
                ended = perf_counter()
        seconds.put(ended - began)


def _floor(url: str, task: Task, part: int, parts: int, begin: Any, seconds: Any) -> None:
    """A session with its share of the rows; what it must know of them first is not timed."""
    with connections.owner(url, autocommit=False) as connection:
        floor = Floor(connection, FLOOR_ROWS)
        floor.prepare_share(task, part, parts)
        begin.wait(SECONDS_TO_WAIT)
        began = perf_counter()
        for _ in floor.batches(task):
            """Moved."""
        seconds.put(perf_counter() - began)
