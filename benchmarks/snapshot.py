"""What the 40th batch's choice reads over the 1st's while an old snapshot holds vacuum back."""

from contextlib import ExitStack

from benchmarks import connections
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import Done, Method, Task, measured
from benchmarks.product import Ours, product
from benchmarks.reference import Reference

BATCHES = 40
ROWS_PER_BATCH = 4_000
ONE_SLICE = 1_000_000_000
SHOWN = (0, 9, 19, 29, 39)


def run(bench: Bench) -> list[Measure]:
    rows = max(10, int(ROWS_PER_BATCH * bench.scale))
    theirs = _drain(bench, "reference", rows)
    ours = _drain(bench, "ours", rows)
    table = [
        [name, *(shown(done[batch].choice_buffers) for batch in SHOWN), shown(_growth(done))]
        for name, done in (("reference", theirs), ("ours", ours))
    ]
    columns = ["buffers of the choice", *(f"batch {batch + 1}" for batch in SHOWN), "40th over 1st"]
    bench.show(f"batches of {rows:,} with an old snapshot held open", columns, table)
    return [
        Measure("ours, 40th over 1st", _growth(ours), at_most=1.2, is_count=True),
        Measure("reference, 40th over 1st", _growth(theirs)),
    ]


def _growth(done: list[Done]) -> float:
    return done[BATCHES - 1].choice_buffers / done[0].choice_buffers


def _drain(bench: Bench, name: str, rows: int) -> list[Done]:
    """All batches of the largest service's emails, in one chain."""
    task = Task(bench.platform.largest, "email", bench.platform.cutoff)
    with ExitStack() as ends:
        url = ends.enter_context(bench.copy(name))
        watch = ends.enter_context(connections.owner(url))
        snapshot = ends.enter_context(connections.owner(url, autocommit=False))
        connections.run(snapshot, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connections.run(snapshot, "SELECT FROM services LIMIT 1")
        bench.say(f"draining: {name}")
        method: Method
        if name == "ours":
            method = Ours(ends.enter_context(product(url, messages_per_step=rows, rows_per_slice=ONE_SLICE)))
        else:
            method = Reference(ends.enter_context(connections.owner(url, autocommit=False)), rows)
        return list(measured(watch, method, task))
