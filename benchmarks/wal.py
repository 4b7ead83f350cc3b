"""WAL bytes per moved row on the same schema, right after a checkpoint and as far from one as can be."""

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import Done, Drained, Method, Task, interleaved, measured
from benchmarks.product import Ours, product
from benchmarks.reference import Reference

# Without full pages the WAL is what it is when every page was written since the last checkpoint.
FULL_PAGES = "ALTER SYSTEM SET full_page_writes = {}"


def run(bench: Bench) -> list[Measure]:
    with ExitStack() as ends:
        both = {name: _drains(bench, ends, name) for name in ("reference", "ours")}
        after: dict[str, Drained] = {}
        for name, (email, _) in both.items():  # one after the other, each with a checkpoint of its own
            bench.checkpoint()
            after |= interleaved({name: email}, 10**9)
        _full_pages(bench, ends, on=False)
        away = interleaved({name: sms for name, (_, sms) in both.items()}, 10**9)
    rows = [
        [name, *(shown(of[name].rows) for of in (after, away)), *(shown(of[name].wal_per_row) for of in (after, away))]
        for name in both
    ]
    columns = ["method", "emails", "text messages", "WAL bytes/row after a checkpoint", "away from one"]
    bench.show("the same schema", columns, rows)
    # A step's own records weigh more where it moves few rows.
    at_most = 1.1 if bench.small else 1.05
    return [
        Measure("after a checkpoint, ours over the reference's", _over(after), at_most=at_most, is_count=True),
        Measure("away from a checkpoint, ours over the reference's", _over(away), at_most=at_most, is_count=True),
    ]


def _over(drained: dict[str, Drained]) -> float:
    return drained["ours"].wal_per_row / drained["reference"].wal_per_row


def _full_pages(bench: Bench, ends: ExitStack, *, on: bool) -> None:
    with connections.owner(bench.server.url) as connection:
        connections.run(connection, FULL_PAGES.format("on" if on else "off"))
        connections.run(connection, "SELECT pg_reload_conf()")
    if not on:
        ends.callback(_full_pages, bench, ends, on=True)
        bench.checkpoint()  # the checkpointer has read the setting when it is through


def _drains(bench: Bench, ends: ExitStack, name: str) -> tuple[Iterator[Done], Iterator[Done]]:
    """The largest service's emails and text messages, on a database of the method's own."""
    url = ends.enter_context(bench.copy(name))
    watch = ends.enter_context(connections.owner(url))
    method: Method
    if name == "ours":
        method = Ours(ends.enter_context(product(url)))
    else:
        method = Reference(ends.enter_context(connections.owner(url, autocommit=False)))
    largest, cutoff = bench.platform.largest, bench.platform.cutoff
    return (
        measured(watch, method, Task(largest, "email", cutoff)),
        measured(watch, method, Task(largest, "sms", cutoff)),
    )
