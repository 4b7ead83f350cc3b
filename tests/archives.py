"""Archives for tests: a bucket, old history, and turns until nothing is left to do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app.archive import work
from app.archive.tools import tools
from app.archive.work import Turn
from app.dao import archives_dao
from app.dao.archives_dao import Archive
from app.db import db

BUCKET = "archive-of-tests"
TABLE = "notification_history"
OLD = datetime(2020, 5, 17, 10, tzinfo=UTC)
"""A time whose window has long been closed."""

MANY = text(
    """
    INSERT INTO notification_history
        (id, service_id, key_type, notification_type, notification_status, created_at, updated_at, reference,
         client_reference, template_id, template_version, billable_units, rate_multiplier, international, created_by_id)
    SELECT gen_random_uuid(), (CAST(:services AS uuid[]))[1 + i % cardinality(CAST(:services AS uuid[]))],
           CASE WHEN i % 5 = 0 THEN 'team' ELSE 'normal' END, 'email', 'delivered',
           CAST(:first AS timestamp) + make_interval(secs => CAST(:seconds AS float) * i / :rows),
           CASE WHEN i % 3 > 0 THEN CAST(:first AS timestamp) + make_interval(secs => i, mins => 1) END,
           CASE WHEN i % 7 > 0 THEN 'ref-' || i END,
           CASE i % 4 WHEN 0 THEN '' WHEN 1 THEN E'a "quoted",\\nline – ' || i END,
           gen_random_uuid(), i % 9, i % 3, CASE WHEN i % 2 = 0 THEN 1.5 END, i % 2 = 0, gen_random_uuid()
    FROM generate_series(0, :rows - 1) AS i
    """
)


def many(
    connection: Connection,
    services: list[UUID],
    rows: int,
    first: datetime = OLD,
    length: timedelta = timedelta(hours=1),
) -> None:
    """So many rows of history, spread over a time; with NULLs, empty texts, quotes and line breaks."""
    values = {
        "services": services,
        "rows": rows,
        "first": first.replace(tzinfo=None),
        "seconds": length.total_seconds(),
    }
    connection.execute(MANY, values)


def run(turns: int = 100) -> list[Turn]:
    """Take turns until there is nothing left to do."""
    taken = []
    for _ in range(turns):
        taken.append(work.take_turn(tools()))
        if not taken[-1].more or taken[-1].not_before is not None:
            return taken
    raise AssertionError("it does not come to an end")


def manifest() -> list[Archive]:
    """Every file's row."""
    with db.transaction(read_only=True) as connection:
        return archives_dao.all_of(connection, TABLE)


def rows_of(connection: Connection) -> dict[UUID, dict[str, Any]]:
    """History, by id."""
    return {row["id"]: dict(row) for row in connection.execute(text("SELECT * FROM notification_history")).mappings()}
