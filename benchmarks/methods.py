"""Methods that drain a service, one transaction at a time, and what each transaction did and cost."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID

from app import clock
from benchmarks import connections

CHOICE = "CREATE TEMP TABLE%"
BUFFERS = """
SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements WHERE query LIKE %(like)s
"""
# Templates are indented as they stand, so that a statement may begin with a new line.
SECONDS_OF_PARTS = """
SELECT CASE WHEN query ~ '^\\s*CREATE TEMP TABLE' THEN 'choose, lock and keep'
            WHEN query ~ '^\\s*INSERT INTO [^ ]*notification_history' THEN 'insert into history'
            WHEN query ~ '^\\s*DELETE FROM [^ ]*notifications' THEN 'delete'
            ELSE 'everything else' END,
       sum(total_exec_time) / 1000
FROM pg_stat_statements
GROUP BY 1
"""
# Pages of the table, not only of the index.
WARM = """
SELECT count(reference), count(normalised_to) FROM (
    SELECT reference, normalised_to FROM notifications
    WHERE service_id = %(service_id)s AND notification_type = %(notification_type)s AND created_at < %(cutoff)s
    ORDER BY created_at
    LIMIT %(limit)s
) AS soon
"""
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


@dataclass(frozen=True)
class Task:
    """What is to be drained: the real rows of a service and type before a cut-off (aware)."""

    service_id: UUID
    notification_type: str
    cutoff: datetime


@dataclass(frozen=True)
class Done:
    """A transaction, its commit included: rows moved, seconds, WAL of the whole server, buffers of the choice.

    `cpu_seconds` are PostgreSQL's own, which other processes of the machine disturb far less.
    """

    rows: int
    seconds: float
    wal_bytes: int = 0
    choice_buffers: int = 0
    cpu_seconds: float = 0.0
    seconds_of_parts: Mapping[str, float] = field(default_factory=dict)
    """PostgreSQL's, by what a statement is for; the commit is in none of them."""


class Method(Protocol):
    """A way to move rows on a database of its own."""

    def batches(self, task: Task) -> Iterator[int]:
        """Do a transaction each time the next value is asked for: the rows that it moved. Ends with the rows.

        What a method must prepare without being timed it does in `prepare`.
        """
        ...

    def prepare(self, task: Task) -> bool:
        """Whatever the next transaction needs and nobody counts. False: nothing is left."""
        ...


def warm(watch: Any, task: Task, rows: int | None) -> None:
    """Have the next rows' pages in memory, as a platform of this size has them: whoever reads first would pay."""
    values = {
        "service_id": str(task.service_id),
        "notification_type": task.notification_type,
        "cutoff": clock.to_column(task.cutoff),
        "limit": rows,
    }
    connections.run(watch, WARM, values)


def measured(watch: Any, method: Method, task: Task, warm_rows: int = 0) -> Iterator[Done]:
    """Drain, transaction by transaction. `watch` is a connection of its own to the method's database.

    Before each, `warm_rows` rows are read by somebody else.
    """
    batches = method.batches(task)
    while method.prepare(task):
        if warm_rows:
            warm(watch, task, warm_rows)
        connections.run(watch, "SELECT pg_stat_statements_reset()")
        wal, cpu = connections.scalar(watch, WAL), _cpu_seconds(watch)
        began = perf_counter()
        rows = next(batches, None)
        seconds = perf_counter() - began
        if rows is None:
            return
        spent = int(connections.scalar(watch, WAL) - wal)
        buffers = connections.scalar(watch, BUFFERS, {"like": CHOICE})
        yield Done(rows, seconds, spent, buffers, _cpu_seconds(watch) - cpu, _seconds_of_parts(watch))


def _cpu_seconds(watch: Any) -> float:
    """What the database's other backends have used; 0 where there is no /proc."""
    with watch.cursor() as cursor:
        cursor.execute(BACKENDS)
        stats = [Path(f"/proc/{pid}/stat") for (pid,) in cursor]
    fields = [stat.read_text().rpartition(")")[2].split() for stat in stats if stat.exists()]
    ticks = sum(int(of_one[11]) + int(of_one[12]) for of_one in fields)  # utime and stime, after pid and name
    return ticks / os.sysconf("SC_CLK_TCK")


def _seconds_of_parts(watch: Any) -> dict[str, float]:
    with watch.cursor() as cursor:
        cursor.execute(SECONDS_OF_PARTS)
        return {part: float(seconds) for part, seconds in cursor}


@dataclass
class Drained:
    """All that a method did, in rounds of about as many rows each."""

    rounds: list[list[Done]]

    @property
    def all(self) -> list[Done]:
        return [done for part in self.rounds for done in part]

    @property
    def rows(self) -> int:
        return sum(done.rows for done in self.all)

    @property
    def seconds(self) -> float:
        return sum(done.seconds for done in self.all)

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def longest(self) -> float:
        """Seconds of the longest transaction."""
        return max(done.seconds for done in self.all)

    @property
    def cpu_per_row(self) -> float:
        """PostgreSQL's seconds."""
        return sum(done.cpu_seconds for done in self.all) / self.rows

    @property
    def wal_per_row(self) -> float:
        return sum(done.wal_bytes for done in self.all) / self.rows

    def seconds_per_row_of(self, part: str) -> float:
        """Of one part of the work."""
        return sum(done.seconds_of_parts.get(part, 0.0) for done in self.all) / self.rows

    def rates(self) -> list[float]:
        """Rows per second, round by round."""
        return [sum(d.rows for d in part) / sum(d.seconds for d in part) for part in self.rounds if part]


def interleaved(drains: Mapping[str, Iterator[Done]], rows_per_round: int) -> dict[str, Drained]:
    """Drain with all methods in turn, so many rows each, until none has any left."""
    drained = {name: Drained([]) for name in drains}
    names = list(drains)
    while names:
        for name in list(names):
            part = list(_take(drains[name], rows_per_round))
            if sum(done.rows for done in part) < rows_per_round:
                names.remove(name)
            if part:
                drained[name].rounds.append(part)
        names = names[1:] + names[:1]  # none is always the first
    return drained


def _take(drain: Iterator[Done], rows: int) -> Iterator[Done]:
    taken = 0
    for done in drain:
        taken += done.rows
        yield done
        if taken >= rows:
            return


def median(values: Sequence[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
