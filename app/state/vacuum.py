"""Whether a table is vacuumed after a night. Pure.

A night deletes the oldest rows of `notifications`. Until a vacuum, whoever reads oldest rows first walks their index
entries: the platform's own queries as much as the pipeline's. As shipped, PostgreSQL waits until a fifth of the table
is dead, and a night's share is often less.
"""

from collections.abc import Iterator

from app.dao import adoption_sql
from app.dao.preconditions_dao import Vacuuming
from app.state.findings import Finding, look

SHARE = 0.02
ROWS_THAT_MATTER = 100_000
"""Of a smaller table nobody notices the dead rows."""


def check(found: Vacuuming, days_of_retention: int) -> Iterator[Finding]:
    """Why a night's dead rows stay, where they do, and the statement that changes it.

    On a table that neither grows nor shrinks, a night deletes about the rows of one day in `days_of_retention`.
    """
    of_a_night = found.rows // days_of_retention
    if found.rows < ROWS_THAT_MATTER or (found.starts_at is not None and found.starts_at <= of_a_night):
        return
    starts = "it is off there" if found.starts_at is None else f"it begins at {found.starts_at:,} dead rows"
    yield look(
        found.table,
        f"a night deletes some {of_a_night:,} rows of {found.table}, and no autovacuum follows: {starts}. Until one "
        "does, whoever reads the oldest rows first walks past the dead ones",
        adoption_sql.vacuum_sooner(found.schema, found.table, SHARE),
    )
