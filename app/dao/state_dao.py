"""Facts about work under way that the judgement of state needs and no other page asks for."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

FAILING = text(
    """
    SELECT notification_type, stage = 'test' AS is_test, coalesce(last_error, 'unknown') AS error,
           count(*) AS sweeps, max(attempts) AS attempts, min(due_at) AS next_attempt
    FROM retention.chains
    WHERE state = 'waiting' AND attempts > 0 AND last_error IS NOT NULL
    GROUP BY notification_type, is_test, error
    ORDER BY attempts DESC, notification_type, is_test, error
    LIMIT :at_most
    """
)
BLOCKED = text(
    """
    SELECT notification_type, stage = 'test' AS is_test, coalesce(reason, 'unknown') AS reason,
           count(*) AS sweeps, min(created_at) AS since
    FROM retention.chains
    WHERE state = 'resting'
    GROUP BY notification_type, is_test, reason
    ORDER BY notification_type, is_test, reason
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
    """Sweeps whose last attempt failed with one error; `next_attempt` is aware."""

    notification_type: str
    is_test: bool
    error: str
    sweeps: int
    attempts: int
    next_attempt: datetime


@dataclass(frozen=True)
class Blocked:
    """Sweeps that wait for one reason; `since` is when the first of them was opened (aware)."""

    notification_type: str
    is_test: bool
    reason: str
    sweeps: int
    since: datetime


@dataclass(frozen=True)
class HeldBack:
    """Rows, or buckets of services, held back for one reason since then (aware)."""

    why: str
    rows: int
    needing_person: int
    since: datetime


def failing(connection: Connection) -> list[Failing]:
    """What fails, what has failed the most often first."""
    return [Failing(*row) for row in connection.execute(FAILING, {"at_most": AT_MOST})]


def blocked(connection: Connection) -> list[Blocked]:
    """What waits for a reason to go."""
    return [Blocked(*row) for row in connection.execute(BLOCKED, {"at_most": AT_MOST})]


def held_back(connection: Connection) -> list[HeldBack]:
    """What is held back, the most first."""
    return [HeldBack(*row) for row in connection.execute(HELD_BACK, {"at_most": AT_MOST})]


def is_going(connection: Connection) -> bool:
    """Whether a sweep has something to do."""
    return bool(connection.execute(IS_GOING).scalar())
