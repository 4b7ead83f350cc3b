"""What the manifest says of the archive as a whole. Times are aware."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

# A file that was read again was verified after it was finished. A window that was given up counts until it is looked at
# again.
MANIFEST = text(
    """
    SELECT count(*) FILTER (WHERE state = 'done') AS files,
           coalesce(sum(rows) FILTER (WHERE state = 'done'), 0)::bigint AS rows,
           coalesce(sum(bytes) FILTER (WHERE state = 'done'), 0)::bigint AS bytes,
           min(first_created_at) FILTER (WHERE state = 'done') AS oldest,
           count(*) FILTER (WHERE state = 'done' AND problem IS NOT NULL) AS damaged,
           min(finished_at) FILTER (WHERE state = 'done') AS first_finished_at,
           max(finished_at) FILTER (WHERE state IN ('done', 'void')) AS last_finished_at,
           max(verified_at) FILTER (WHERE state = 'done' AND verified_at > finished_at) AS read_again_at,
           min(verified_at) FILTER (WHERE state = 'done') AS longest_unread_at,
           count(DISTINCT window_from) FILTER (WHERE is_given_up) AS given_up,
           min(problem) FILTER (WHERE is_given_up) AS why_given_up,
           min(finished_at) FILTER (WHERE is_given_up) AS given_up_at
    FROM (
        SELECT *, state = 'void' AND problem IS NOT NULL AND retry_at > :now AS is_given_up
        FROM retention.archives WHERE table_name = :table
    ) AS a
    """
)


@dataclass(frozen=True)
class Manifest:
    """All files of a table. `oldest` is when the oldest archived row was created; `read_again_at`, when a finished file
    was last read again; `longest_unread_at`, when that file was read that was not read for longest. `given_up` counts
    windows whose rows stay in the table for now.
    """

    files: int
    rows: int
    bytes: int
    oldest: datetime | None
    damaged: int
    first_finished_at: datetime | None
    last_finished_at: datetime | None
    read_again_at: datetime | None
    longest_unread_at: datetime | None
    given_up: int
    why_given_up: str | None
    given_up_at: datetime | None


def manifest(connection: Connection, table: str, now: datetime) -> Manifest:
    """What there is at that time."""
    row = connection.execute(MANIFEST, {"table": table, "now": now}).mappings().one()
    return Manifest(**row)
