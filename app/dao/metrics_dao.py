"""What metrics ask of the database: each question is answered from an index, or stops at a cap."""

from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import Connection, Row, text

HELD_BACK = text(
    """
    SELECT reason, count(*) AS held, min(first_failed_at) AS oldest
    FROM (SELECT reason, first_failed_at FROM retention.deferred_rows
          UNION ALL
          SELECT reason, first_failed_at FROM retention.deferred_buckets) AS all_held
    GROUP BY reason
    """
)

# Those that have ended are many, and are not read.
CHAINS = text(
    """
    SELECT CASE WHEN lease_until > :now THEN 'running' ELSE 'waiting' END AS state, count(*) AS chains
    FROM retention.chains WHERE state = 'waiting'
    GROUP BY 1
    UNION ALL
    SELECT 'resting', count(*) FROM retention.chains WHERE state = 'resting'
    """
)

# A night that found nothing to do for a type did it: where no letters are sent, none is missing.
NOTHING_TO_DO = text(
    """
    SELECT notification_type, max(fanned_out_at) AS at FROM retention.run_types
    WHERE services = 0 AND night >= :since GROUP BY notification_type
    """
)
LAST_RUN = text(
    "SELECT max(started_at) FROM (SELECT started_at FROM retention.runs ORDER BY night DESC LIMIT 5) AS last"
)

DELETIONS = text(
    """
    SELECT state, count(*) AS deletions, min(requested_at) AS oldest
    FROM user_deletions WHERE state IN ('requested', 'running', 'blocked')
    GROUP BY state
    UNION ALL
    SELECT 'unconfirmed', count(*), min(completed_at)
    FROM user_deletions WHERE state = 'complete' AND confirmation_address IS NOT NULL
    """
)

LAST_AUDIT = text(
    """
    SELECT finished_at, files_without_row, rows_without_file, unrecognised_files
    FROM retention.audits
    WHERE finished_at IS NOT NULL AND NOT abandoned AND only_bucket IS NULL AND since IS NULL AND until IS NULL
    ORDER BY finished_at DESC LIMIT 1
    """
)


def held_back(connection: Connection) -> Sequence[Row[tuple[str, int, datetime]]]:
    """Rows held back by reason, a bucket that refuses everything counted once a service, and since when."""
    return connection.execute(HELD_BACK).all()


def chains_by_state(connection: Connection, now: datetime) -> dict[str, int]:
    """Chains that have not ended: waiting, running (under a lease) or resting."""
    return {row.state: row.chains for row in connection.execute(CHAINS, {"now": now})}


def nothing_to_do(connection: Connection, since: date) -> dict[str, datetime]:
    """By type, when the last night since that one found no service with anything overdue."""
    return {row.notification_type: row.at for row in connection.execute(NOTHING_TO_DO, {"since": since})}


def last_run(connection: Connection) -> datetime | None:
    """When the last run began."""
    return connection.execute(LAST_RUN).scalar()


def deletions_by_state(connection: Connection) -> Sequence[Row[tuple[str, int, datetime | None]]]:
    """Deletions of accounts that are not over, with the oldest's time."""
    return connection.execute(DELETIONS).all()


def last_audit(connection: Connection) -> Row[tuple[datetime, int, int, int]] | None:
    """The last audit of everything that came to its end, if there was one."""
    return connection.execute(LAST_AUDIT).one_or_none()
