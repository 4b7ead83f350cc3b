"""Facts about work under way that the judgement of state needs and no other page asks for."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from app.dao.failures_dao import Failure, of_row

# S3's answers set a chain back without a failed attempt. Workers of before migration 0069 note a text alone. An attempt
# that neither fails nor ends killed its worker: the third in a row is no longer one that is merely under way.
FAILING = text(
    """
    SELECT notification_type, stage = 'test' AS is_test, count(*) AS sweeps,
           max(greatest(attempts, CASE WHEN s3_code IS NULL THEN 0 ELSE setbacks END)) AS attempts,
           min(due_at) AS next_attempt,
           coalesce(error_class, last_error, 'WorkerLost') AS error_class, sqlstate, refused_by, refused_table, s3_code
    FROM retention.chains
    WHERE state = 'waiting'
      AND (coalesce(error_class, last_error) IS NOT NULL AND attempts > 0
           OR s3_code IS NOT NULL AND reason = s3_code OR attempts > 2)
    GROUP BY notification_type, stage = 'test', coalesce(error_class, last_error, 'WorkerLost'), sqlstate, refused_by,
             refused_table, s3_code
    ORDER BY attempts DESC, notification_type, is_test, error_class
    LIMIT :at_most
    """
)
BLOCKED = text(
    """
    SELECT notification_type, stage = 'test' AS is_test, coalesce(reason, 'unknown') AS reason,
           count(*) AS sweeps, min(created_at) AS since,
           error_class, sqlstate, refused_by, refused_table, s3_code
    FROM retention.chains
    WHERE state = 'resting'
    GROUP BY notification_type, stage = 'test', reason, error_class, sqlstate, refused_by, refused_table, s3_code
    ORDER BY notification_type, is_test, reason, error_class
    LIMIT :at_most
    """
)
HELD_BACK = text(
    """
    SELECT concat_ws(' ', reason, sqlstate, refused_by) AS why, count(*) AS rows,
           count(*) FILTER (WHERE needs_person) AS needing_person, min(first_failed_at) AS since
    FROM retention.deferred_rows
    GROUP BY reason, sqlstate, refused_by
    UNION ALL
    SELECT concat_ws(' ', reason, 'in bucket', bucket), count(*), 0, min(first_failed_at)
    FROM retention.deferred_buckets
    GROUP BY reason, bucket
    ORDER BY rows DESC, why
    LIMIT :at_most
    """
)
IS_GOING = text("SELECT EXISTS (SELECT FROM retention.chains WHERE state = 'waiting')")
AT_MOST = 100


@dataclass(frozen=True)
class Failing:
    """Sweeps whose last attempts failed for one reason, how often in a row at most; `next_attempt` is aware."""

    notification_type: str
    is_test: bool
    sweeps: int
    attempts: int
    next_attempt: datetime
    failure: Failure


@dataclass(frozen=True)
class Blocked:
    """Sweeps that wait for one reason, and what refused their last batch; `since` is when the first of them was opened
    (aware).
    """

    notification_type: str
    is_test: bool
    reason: str
    sweeps: int
    since: datetime
    failure: Failure | None


@dataclass(frozen=True)
class HeldBack:
    """Rows, or buckets of services, held back for one reason since then (aware)."""

    why: str
    rows: int
    needing_person: int
    since: datetime


def failing(connection: Connection) -> list[Failing]:
    """What fails, what has failed the most often first."""
    return [
        Failing(row.notification_type, row.is_test, row.sweeps, row.attempts, row.next_attempt, of_row(row))
        for row in connection.execute(FAILING, {"at_most": AT_MOST})
    ]


def blocked(connection: Connection) -> list[Blocked]:
    """What waits for a reason to go."""
    found = connection.execute(BLOCKED, {"at_most": AT_MOST})
    return [
        Blocked(
            row.notification_type,
            row.is_test,
            row.reason,
            row.sweeps,
            row.since,
            of_row(row) if row.error_class else None,
        )
        for row in found
    ]


def held_back(connection: Connection) -> list[HeldBack]:
    """What is held back, the most first."""
    return [HeldBack(*row) for row in connection.execute(HELD_BACK, {"at_most": AT_MOST})]


def is_going(connection: Connection) -> bool:
    """Whether a sweep has something to do."""
    return bool(connection.execute(IS_GOING).scalar())
