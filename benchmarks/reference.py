"""The reference method, written anew from its description: what the largest public platform does today.

Discovery by DISTINCT; batches of 50,000 into a temporary table without a lock, into a history with foreign keys,
deleted by id.
"""

from collections.abc import Iterator
from typing import Any

from app import clock
from benchmarks import connections
from benchmarks.methods import Task

ROWS_PER_BATCH = 50_000

HISTORY_COLUMNS = """
    id, job_id, job_row_number, service_id, template_id, template_version, api_key_id, key_type, notification_type,
    created_at, sent_at, sent_by, updated_at, reference, billable_units, client_reference, international,
    phone_prefix, rate_multiplier, notification_status, created_by_id, postage, document_download_count
"""

DISCOVERY = """
SELECT DISTINCT service_id FROM notifications
WHERE notification_type = %(notification_type)s AND created_at < %(cutoff)s
"""

TAKE = f"""
CREATE TEMP TABLE notification_history_temp ON COMMIT DROP AS
SELECT {HISTORY_COLUMNS} FROM notifications
WHERE service_id = %(service_id)s AND notification_type = %(notification_type)s AND created_at < %(cutoff)s
  AND key_type IN ('normal', 'team')
ORDER BY created_at
LIMIT %(limit)s
"""
INTO_HISTORY = f"""
INSERT INTO notification_history ({HISTORY_COLUMNS})
SELECT {HISTORY_COLUMNS} FROM notification_history_temp
ON CONFLICT ON CONSTRAINT notification_history_pkey DO NOTHING
"""
COUNT = "SELECT count(*) FROM notification_history_temp"
DELETE = "DELETE FROM notifications WHERE id IN (SELECT id FROM notification_history_temp)"
DELETE_TEST = """
DELETE FROM notifications WHERE id IN (
    SELECT id FROM notifications
    WHERE service_id = %(service_id)s AND notification_type = %(notification_type)s AND created_at < %(cutoff)s
      AND key_type = 'test'
    LIMIT %(limit)s
)
"""

# What its history names. The rows that are there already are not checked, those that come are.
PARENTS = (
    ("jobs", "job_id"),
    ("api_keys", "api_key_id"),
)
FOREIGN_KEYS = """
CREATE TABLE reference.templates_history (id uuid, version integer, PRIMARY KEY (id, version));
INSERT INTO reference.templates_history SELECT DISTINCT template_id, template_version FROM notifications;
ALTER TABLE notification_history
    ADD FOREIGN KEY (job_id) REFERENCES reference.jobs NOT VALID,
    ADD FOREIGN KEY (service_id) REFERENCES services NOT VALID,
    ADD FOREIGN KEY (template_id, template_version) REFERENCES reference.templates_history NOT VALID,
    ADD FOREIGN KEY (api_key_id) REFERENCES reference.api_keys NOT VALID,
    ADD FOREIGN KEY (key_type) REFERENCES key_types NOT VALID,
    ADD FOREIGN KEY (notification_status) REFERENCES notification_status_types NOT VALID;
CREATE INDEX ix_notification_history_job_id ON notification_history (job_id);
ANALYZE reference.jobs, reference.api_keys, reference.templates_history;
"""


def add_foreign_keys(connection: Any) -> None:
    """Make our schema the reference's: its history has foreign keys, to tables of just the ids that it names, and an
    index on job_id.
    """
    connections.run(connection, "CREATE SCHEMA reference")
    for table, column in PARENTS:
        connections.run(connection, f"CREATE TABLE reference.{table} (id uuid PRIMARY KEY)")
        connections.run(
            connection,
            f"INSERT INTO reference.{table} SELECT DISTINCT {column} FROM notifications WHERE {column} IS NOT NULL",
        )
    connections.run(connection, FOREIGN_KEYS)


def discover(connection: Any, notification_type: str, cutoff: Any) -> int:
    """The services that have something overdue: how many."""
    return connections.run(
        connection, DISCOVERY, {"notification_type": notification_type, "cutoff": clock.to_column(cutoff)}
    )


class Reference:
    """Moves batches, a transaction each."""

    def __init__(self, connection: Any, rows_per_batch: int = ROWS_PER_BATCH) -> None:
        self._connection = connection
        self._rows = rows_per_batch

    def prepare(self, _task: Task) -> bool:
        return True

    def batches(self, task: Task) -> Iterator[int]:
        values = self._values(task)
        while True:
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute(TAKE, values)
                cursor.execute(COUNT)
                cursor.execute(INTO_HISTORY)
                cursor.execute(DELETE)
                deleted = cursor.rowcount
            if not deleted:
                return
            yield deleted

    def delete_test(self, task: Task) -> int:
        """The test rows of a service, once the others are gone: a task of its own for each service."""
        values = self._values(task)
        with self._connection:
            return connections.run(self._connection, DELETE_TEST, values)

    def _values(self, task: Task) -> dict[str, Any]:
        return {
            "service_id": str(task.service_id),
            "notification_type": task.notification_type,
            "cutoff": clock.to_column(task.cutoff),
            "limit": self._rows,
        }
