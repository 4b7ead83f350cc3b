"""The floor: a bare insert and a bare delete of rows that are known, no choice, no lock, no check of anything."""

from collections.abc import Iterator
from typing import Any

from app import clock
from benchmarks import connections
from benchmarks.methods import Task
from benchmarks.reference import HISTORY_COLUMNS

WHICH = """
FROM notifications
WHERE service_id = %(service_id)s AND notification_type = %(notification_type)s AND created_at < %(cutoff)s
  AND key_type IN ('normal', 'team')
"""
COUNT = f"SELECT count(*) {WHICH}"
KNOW = f"""
CREATE TEMP TABLE {{table}} AS
SELECT ctid AS row_address, {HISTORY_COLUMNS} {WHICH}
ORDER BY created_at
OFFSET %(offset)s LIMIT %(limit)s
"""
INSERT = f"INSERT INTO notification_history ({HISTORY_COLUMNS}) SELECT {HISTORY_COLUMNS} FROM {{table}}"
DELETE = "DELETE FROM notifications WHERE ctid = ANY (ARRAY(SELECT row_address FROM {table}))"


class Floor:
    """Moves batches of so many rows, a transaction each. Which rows it is told beforehand, and nobody counts that."""

    def __init__(self, connection: Any, rows_per_batch: int) -> None:
        self._connection = connection
        self._rows = rows_per_batch
        self._known: list[str] = []
        self._number = 0

    def prepare(self, task: Task) -> bool:
        return self._know(task, 0, self._rows)

    def prepare_share(self, task: Task, part: int, parts: int) -> None:
        """All batches of one of `parts` sessions, each with its stretch of time, as slices have."""
        total = connections.scalar(self._connection, COUNT, _values(task))
        end = total * (part + 1) // parts
        for offset in range(total * part // parts, end, self._rows):
            self._know(task, offset, min(self._rows, end - offset))

    def batches(self, _task: Task) -> Iterator[int]:
        while self._known:
            table = self._known.pop(0)
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute(INSERT.format(table=table))
                cursor.execute(DELETE.format(table=table))
                deleted = cursor.rowcount
            yield deleted

    def _know(self, task: Task, offset: int, limit: int) -> bool:
        self._number += 1
        table = f"known_{self._number}"
        values = _values(task) | {"offset": offset, "limit": limit}
        with self._connection:
            rows = connections.run(self._connection, KNOW.format(table=table), values)
        if rows:
            self._known.append(table)
        return bool(rows)


def _values(task: Task) -> dict[str, Any]:
    return {
        "service_id": str(task.service_id),
        "notification_type": task.notification_type,
        "cutoff": clock.to_column(task.cutoff),
    }
