"""Moving the emails and text messages of the largest service: the reference, ours and the floor, on both schemas."""

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import connections, reference
from benchmarks.bench import Bench
from benchmarks.floor import Floor
from benchmarks.measures import Measure, shown
from benchmarks.methods import Done, Drained, Method, Task, interleaved, measured, median
from benchmarks.product import Ours, product
from benchmarks.reference import Reference

ROWS_PER_ROUND = 50_000
OURS_ROWS = 10_000  # the setting's default
WARM_ROWS = 55_000  # a batch of the reference, and the test notifications between its rows
PARTS = ("choose, lock and keep", "insert into history", "delete", "everything else")
"""Of the statements, by what they are for: see SECONDS_OF_PARTS."""
REFERENCE, OURS, FLOOR, OURS_THERE = "reference", "ours", "floor", "ours, reference's schema"


def run(bench: Bench) -> list[Measure]:
    with ExitStack() as ends:
        drains = {
            REFERENCE: _drain(bench, ends, "reference", with_foreign_keys=True),
            OURS: _drain(bench, ends, "ours"),
            FLOOR: _drain(bench, ends, "floor"),
            OURS_THERE: _drain(bench, ends, "ours_there", with_foreign_keys=True),
        }
        bench.checkpoint()
        bench.say("draining")
        drained = interleaved(drains, ROWS_PER_ROUND)
    _show(bench, drained)
    return _measures(drained)


def _drain(bench: Bench, ends: ExitStack, name: str, *, with_foreign_keys: bool = False) -> Iterator[Done]:
    change = reference.add_foreign_keys if with_foreign_keys else None
    url = ends.enter_context(bench.copy(name, change))
    watch = ends.enter_context(connections.owner(url))
    method: Method
    if name.startswith("ours"):
        method = Ours(ends.enter_context(product(url)))
    else:
        own = ends.enter_context(connections.owner(url, autocommit=False))
        method = Reference(own) if name == "reference" else Floor(own, OURS_ROWS)
    bench.say(f"a copy for {name}")
    return _both_types(bench, watch, method)


def _both_types(bench: Bench, watch: object, method: Method) -> Iterator[Done]:
    for notification_type in ("email", "sms"):
        task = Task(bench.platform.largest, notification_type, bench.platform.cutoff)
        yield from measured(watch, method, task, WARM_ROWS)


def _show(bench: Bench, drained: dict[str, Drained]) -> None:
    rows = []
    for name, one in drained.items():
        rates = one.rates()
        rows.append(
            [
                name,
                shown(one.rows),
                shown(one.rows_per_second),
                f"{shown(min(rates))} to {shown(max(rates))}",
                shown(one.seconds / one.rows * 1e6),
                shown(one.cpu_per_row * 1e6),
                shown(one.longest),
                shown(one.wal_per_row),
            ]
        )
    columns = ["method", "rows", "rows/s", "by round", "µs/row", "CPU µs/row", "longest, s", "WAL bytes/row"]
    bench.show("whole drain of the largest service", columns, rows)
    parts = [
        [
            name,
            *(shown(one.seconds_per_row_of(part) * 1e6) for part in PARTS),
            shown(median([d.seconds for d in one.all])),
        ]
        for name, one in drained.items()
    ]
    bench.show("µs a row of each part, and the median transaction", ["method", *PARTS, "median, s"], parts)


def _measures(drained: dict[str, Drained]) -> list[Measure]:
    theirs, ours, floor, there = (drained[name] for name in (REFERENCE, OURS, FLOOR, OURS_THERE))
    return [
        Measure("ours over the reference on its schema", ours.rows_per_second / theirs.rows_per_second, at_least=2.1),
        Measure("ours over the floor", ours.rows_per_second / floor.rows_per_second, at_least=0.8),
        Measure(
            "ours over the reference, both on its schema", there.rows_per_second / theirs.rows_per_second, at_least=1.3
        ),
        Measure("longest transaction over the reference's", ours.longest / theirs.longest, at_most=0.2),
        Measure("rows moved over the reference's", ours.rows / theirs.rows, at_least=1.0, at_most=1.0, is_count=True),
        Measure("rows moved over the floor's", ours.rows / floor.rows, at_least=1.0, at_most=1.0, is_count=True),
    ]
