"""Totals that only grow: what steps did, whatever becomes of their records.

The records of steps are folded into `retention.totals` by the dispatcher, out of the steps' way. A total is the folded
amount and that of the records not folded yet, read in one snapshot: never one of them twice, never one not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from app.dao import turns_dao

ROWS_MOVED, TEST_ROWS_DELETED = "rows_moved", "test_rows_deleted"
FILES_DELETED, FILES_FAILED = "files_deleted", "files_failed"
SESSIONS_DELETED = "sessions_deleted"
MESSAGES_REFUSED = "messages_refused"
BATCH_FAILURES = "batch_failures"
"""These two are not folded but added at once; the second is labelled with policy and error."""
WHY_REFUSED = ("envelope", "headers", "body", "unknown-task", "too-late", "arguments")
"""Its labels."""
STEP_SECONDS, STEP_ROWS = "step_seconds", "step_rows"
SUM = ".sum"
LAST_SUCCESS = "last_success"
"""Not a sum but the newest: when the last step began that got through its batch, in seconds since 1970."""

SECONDS_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 90.0)
ROWS_BOUNDS = (0.0, 1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 50_000.0)
"""Upper bounds of the histograms' buckets. Totals are kept by them: changing them breaks what was counted before."""

# `fresh_steps` and `fresh_batches` are records that are not folded yet. A histogram's buckets are counted apart, and
# added up from below by who reads them; the bound of what is no bucket is zero.
AMOUNTS = """
    SELECT 'rows_moved' AS counter, notification_type AS label, 0::float AS bound, sum(moved)::float AS amount
    FROM fresh_steps GROUP BY notification_type
    UNION ALL
    SELECT 'test_rows_deleted', notification_type, 0, sum(deleted) FROM fresh_steps GROUP BY notification_type
    UNION ALL
    SELECT 'files_deleted', '', 0, sum(files_deleted) FROM fresh_steps HAVING count(*) > 0
    UNION ALL
    SELECT 'files_failed', failure.key, 0, sum(failure.value::integer)
    FROM fresh_steps, jsonb_each_text(failures) AS failure GROUP BY failure.key
    UNION ALL
    SELECT 'step_seconds.sum', notification_type, 0, sum(seconds) FROM fresh_steps GROUP BY notification_type
    UNION ALL
    SELECT 'step_rows.sum', notification_type, 0, sum(chosen) FROM fresh_steps GROUP BY notification_type
    UNION ALL
    SELECT 'step_seconds', notification_type, bound, count(*)
    FROM (SELECT notification_type, coalesce(min(upper.bound), 'infinity') AS bound
          FROM fresh_steps LEFT JOIN unnest(CAST(:seconds_bounds AS float[])) AS upper (bound) ON seconds <= upper.bound
          GROUP BY id, notification_type) AS placed
    GROUP BY notification_type, bound
    UNION ALL
    SELECT 'step_rows', notification_type, bound, count(*)
    FROM (SELECT notification_type, coalesce(min(upper.bound), 'infinity') AS bound
          FROM fresh_steps LEFT JOIN unnest(CAST(:rows_bounds AS float[])) AS upper (bound) ON chosen <= upper.bound
          GROUP BY id, notification_type) AS placed
    GROUP BY notification_type, bound
    UNION ALL
    SELECT 'last_success', notification_type, 0, extract(epoch FROM max(started_at))
    FROM fresh_steps WHERE outcome IN ('removed', 'nothing') GROUP BY notification_type
    UNION ALL
    SELECT 'sessions_deleted', '', 0, sum(sessions) FROM fresh_batches HAVING count(*) > 0
"""

FOLD = text(
    f"""
    WITH fresh_steps AS (
        UPDATE retention.steps SET counted = true
        WHERE id = ANY (ARRAY(SELECT id FROM retention.steps WHERE NOT counted ORDER BY id LIMIT :at_most))
        RETURNING id, notification_type, moved, deleted, files_deleted, failures, seconds, chosen, outcome, started_at
    ), fresh_batches AS (
        DELETE FROM retention.session_batches
        WHERE id = ANY (ARRAY(SELECT id FROM retention.session_batches ORDER BY id LIMIT :at_most))
        RETURNING sessions
    )
    INSERT INTO retention.totals (counter, label, bound, amount)
    SELECT counter, label, bound, amount FROM ({AMOUNTS}) AS amounts WHERE amount <> 0
    ON CONFLICT (counter, label, bound) DO UPDATE
    SET amount = CASE WHEN totals.counter = 'last_success' THEN greatest(totals.amount, excluded.amount)
                      ELSE totals.amount + excluded.amount END
    """  # noqa: S608 - constants of this module
)
READ = text(
    f"""
    WITH fresh_steps AS (SELECT * FROM retention.steps WHERE NOT counted),
         fresh_batches AS (SELECT * FROM retention.session_batches)
    SELECT counter, label, bound, CASE WHEN counter = 'last_success' THEN max(amount) ELSE sum(amount) END AS amount
    FROM (SELECT counter, label, bound, amount FROM retention.totals UNION ALL {AMOUNTS}) AS amounts
    GROUP BY counter, label, bound
    ORDER BY counter, label, bound
    """  # noqa: S608
)
ADD = text(
    """
    INSERT INTO retention.totals (counter, label, bound, amount) VALUES (:counter, :label, 0, :amount)
    ON CONFLICT (counter, label, bound) DO UPDATE SET amount = totals.amount + excluded.amount
    """
)
RECORD_SESSIONS = text("INSERT INTO retention.session_batches (removed_at, sessions) VALUES (:now, :sessions)")

BOUNDS = {"seconds_bounds": list(SECONDS_BOUNDS), "rows_bounds": list(ROWS_BOUNDS)}


@dataclass(frozen=True)
class Total:
    """A counter's amount for a label, or of one bucket of a histogram: what lies above the bound below."""

    counter: str
    label: str
    bound: float
    amount: float


def fold(connection: Connection, at_most: int) -> None:
    """Fold so many records of steps, and of session batches, into the totals; nothing while somebody else does."""
    if turns_dao.try_to_take(connection, turns_dao.TOTALS):  # whoever comes second has nothing to do
        connection.execute(FOLD, {**BOUNDS, "at_most": at_most})


def add(connection: Connection, counter: str, amounts: Mapping[str, float]) -> None:
    """Add to a counter, by label; in the order of the labels, so that two who do so wait for each other at most."""
    for label, amount in sorted(amounts.items()):
        connection.execute(ADD, {"counter": counter, "label": label, "amount": amount})


def read(connection: Connection) -> Sequence[Total]:
    """All totals as of now."""
    return [Total(*row) for row in connection.execute(READ, BOUNDS)]


def record_sessions(connection: Connection, now: datetime, sessions: int) -> None:
    """Write down how many sessions a step removed, in its own transaction."""
    connection.execute(RECORD_SESSIONS, {"now": now, "sessions": sessions})
