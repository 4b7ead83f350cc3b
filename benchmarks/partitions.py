"""A prototype of what comes next: a day's partition that leaves as a whole, against deleting it row by row."""

from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter
from typing import Any

from app import clock
from benchmarks import connections, partitions_sql
from benchmarks.bench import Bench
from benchmarks.measures import Measure, shown
from benchmarks.methods import WAL, median

ROUNDS = 3
ROWS_PER_BATCH = 10_000
LATE = 100
KEPT_SERVICES = slice(5, None, 20)  # one in twenty is on hold, or has a longer retention


@dataclass
class Cost:
    """Of one day: seconds of its parts, the longest time that live traffic waits, WAL, and bytes left behind."""

    rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    wait: float = 0.0
    wal_bytes: int = 0
    freed: int = 0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass
class Checks:
    """Rows of all days: those that are where they should not be."""

    wrong: int = 0
    statuses_lost: int = 0


class Days:
    """The oldest days of the platform, in `notifications` and as partitions of a table beside it."""

    def __init__(self, bench: Bench, connection: Any) -> None:
        self._connection = connection
        self._oldest = bench.platform.oldest
        kept = bench.platform.services[KEPT_SERVICES]
        self._values = {"kept_services": [str(service) for service in kept], "rows": ROWS_PER_BATCH, "late": LATE}
        self.checks = Checks()
        connections.run(connection, partitions_sql.SET_UP)
        for number in range(ROUNDS):
            self._run(partitions_sql.FILL_DAY, number)

    def row_by_row(self, number: int) -> Cost:
        """Delete a day in batches, then vacuum: until then its room is not free."""
        cost, began_at = Cost(), self._wal()
        before = self._size("notifications")
        with _timed(cost, "batches"):
            while moved := self._batch(number):
                cost.rows += moved
            self._run(partitions_sql.DELETE_TEST, number)
        with _timed(cost, "vacuum"):
            self._run("VACUUM notifications", number)
        cost.wal_bytes = self._wal() - began_at
        cost.freed = before - self._size("notifications")
        return cost

    def as_a_whole(self, number: int) -> Cost:
        """Copy a day ahead into a table that nobody sees, index it, and swap partitions in one short transaction."""
        cost, began_at = Cost(), self._wal()
        to_go, to_stay = self._row(partitions_sql.TO_MOVE, number)
        before = self._size("by_day", "history_by_day")
        with _timed(cost, "copy ahead"):
            self._copy(number)
        with _timed(cost, "indexes"):
            for statement in partitions_sql.INDEX:
                self._run(statement, number)
        self._run(partitions_sql.LATE_STATUSES, number)
        with _timed(cost, "swap"):
            self._swap(number)
        cost.rows, cost.wait = to_go, cost.seconds["swap"]
        cost.wal_bytes = self._wal() - began_at
        cost.freed = before - self._size("by_day", "history_by_day")
        in_history, live, in_both, late = self._row(partitions_sql.SEEN, number)
        self.checks.wrong += abs(in_history - to_go) + abs(live - to_stay) + in_both
        self.checks.statuses_lost += min(LATE, to_go) - late
        return cost

    def _batch(self, number: int) -> int:
        connections.run(self._connection, "BEGIN")
        taken = self._run(partitions_sql.TAKE, number)
        self._run(partitions_sql.MOVE, number)
        deleted = self._run(partitions_sql.DELETE, number)
        connections.run(self._connection, "COMMIT")
        assert taken == deleted
        return deleted

    def _copy(self, number: int) -> None:
        self._run(partitions_sql.NEW_HISTORY, number)
        with self._connection.cursor() as cursor:
            cursor.execute(self._named(partitions_sql.BOUNDS, number), self._values_of(number))
            bounds = [row[0] for row in cursor]
        for begins, ends in zip(bounds, [*bounds[1:], "infinity"], strict=True):
            self._run(partitions_sql.COPY_AHEAD, number, {"from": begins, "to": ends})

    def _swap(self, number: int) -> None:
        connections.run(self._connection, "BEGIN")
        self._run(partitions_sql.LOCK, number)
        self._run(partitions_sql.CATCH_UP, number)
        self._run(partitions_sql.KEEP, number)
        to_go, copied = self._row(partitions_sql.COUNTS, number)
        assert to_go == copied, f"{to_go} rows were to go, {copied} are in history: nothing is swapped"
        self._run(partitions_sql.SWAP, number)
        connections.run(self._connection, "COMMIT")

    def _run(self, statement: str, number: int, values: dict[str, Any] | None = None) -> int:
        return connections.run(
            self._connection, self._named(statement, number), self._values_of(number) | (values or {})
        )

    def _row(self, statement: str, number: int) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(self._named(statement, number), self._values_of(number))
            return tuple(cursor.fetchone())

    def _named(self, statement: str, number: int) -> str:
        parts = ("day", "history", "kept", "copied")
        return statement.format(**{part: f"{part}_{number}" for part in parts})

    def _values_of(self, number: int) -> dict[str, Any]:
        begins = clock.to_column(self._oldest + timedelta(days=number))
        return self._values | {"begins": begins, "ends": begins + timedelta(days=1)}

    def _wal(self) -> int:
        return int(connections.scalar(self._connection, WAL))

    def _size(self, *tables: str) -> int:
        """Bytes of tables with their partitions and indexes."""
        statement = "SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint FROM pg_partition_tree(%s)"
        plain = "SELECT pg_total_relation_size(%s)"
        return sum(
            int(connections.scalar(self._connection, plain if table == "notifications" else statement, [table]))
            for table in tables
        )


class _timed:
    """Adds the block's seconds to a cost."""

    def __init__(self, cost: Cost, part: str) -> None:
        self._cost, self._part = cost, part

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._cost.seconds[self._part] = perf_counter() - self._began


def run(bench: Bench) -> list[Measure]:
    with bench.copy("partitions") as url, connections.owner(url) as connection:
        days = Days(bench, connection)
        bench.checkpoint()
        rows, whole = [], []
        for number in range(ROUNDS):
            rows.append(days.row_by_row(number))
            whole.append(days.as_a_whole(number))
    _show(bench, rows, whole)
    return [
        Measure("rows lost, in both tables, or gone though they stay", days.checks.wrong, at_most=0, is_count=True),
        Measure("late statuses lost", days.checks.statuses_lost, at_most=0, is_count=True),
        Measure("seconds a row, row by row over as a whole", _ratio(rows, whole, lambda cost: cost.total / cost.rows)),
        Measure("WAL a row, row by row over as a whole", _ratio(rows, whole, lambda cost: cost.wal_bytes / cost.rows)),
        Measure("the swap, during which receipts for that day wait", median([cost.wait for cost in whole]), unit="s"),
    ]


def _ratio(rows: list[Cost], whole: list[Cost], of: Any) -> float:
    return median([of(one) / of(other) for one, other in zip(rows, whole, strict=True)])


def _show(bench: Bench, rows: list[Cost], whole: list[Cost]) -> None:
    table = []
    for name, costs in (("row by row", rows), ("as a whole", whole)):
        middle = sorted(costs, key=lambda cost: cost.total)[len(costs) // 2]
        parts = ", ".join(f"{part} {shown(seconds)}" for part, seconds in middle.seconds.items())
        table.append(
            [
                name,
                shown(middle.rows),
                parts,
                shown(middle.total / middle.rows * 1e6),
                shown(middle.wal_bytes / middle.rows),
                shown(middle.freed / 1e6),
            ]
        )
    columns = ["a day", "rows", "seconds", "µs/row", "WAL bytes/row", "MB given back"]
    bench.show("emails and text messages of one day, all services; the median of three days", columns, table)
