"""Sweeps of policies: begun, leased, told of; what their batches did; rows that are held back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao.leases import LeasedTable

WAITING, BLOCKED, ENDED = "waiting", "blocked", "ended"
SWEEPS = LeasedTable(
    "retention.policy_sweeps",
    "id",
    open=("state = 'waiting'",),
    returns=("policy", "period", "started_at", "step", "seen_to", "seen_key", "intent", "state"),
    wake=("id", "step"),
    step="step",
    blocked=BLOCKED,
    unblocked=WAITING,
)

# A policy that never was done waits for its next time: whoever has just written it may look before. One that is under
# way goes on; one that is blocked tries again.
BEGIN = text(
    """
    INSERT INTO retention.policy_sweeps (policy, period, started_at, due_at)
    SELECT given.policy, given.period, :now, :now
    FROM unnest(CAST(:policies AS text[]), CAST(:periods AS timestamptz[])) AS given (policy, period)
    WHERE given.period > :now - make_interval(secs => :first_seconds)
       OR EXISTS (SELECT FROM retention.policy_sweeps AS s WHERE s.policy = given.policy)
    ON CONFLICT DO NOTHING
    """
)
BEGIN_AGAIN = text(
    """
    UPDATE retention.policy_sweeps AS s
    SET period = given.period, started_at = :now, due_at = :now, state = 'waiting', seen_to = NULL, seen_key = NULL,
        attempts = 0, wakes = 0, sent_at = NULL, step = s.step + 1
    FROM unnest(CAST(:policies AS text[]), CAST(:periods AS timestamptz[])) AS given (policy, period)
    WHERE s.policy = given.policy AND s.state = 'blocked' AND s.period < given.period
    """
)
OPEN = text("SELECT id, step FROM retention.policy_sweeps WHERE policy = :policy AND state = 'waiting'")
RECORD = text(
    """
    INSERT INTO retention.policy_steps
        (sweep_id, policy, step, began_at, seconds, rows, files, missing, deferred, services, removed_of)
    VALUES (:sweep, :policy, :step, :began_at, :seconds, :rows, :files, :missing, :deferred, CAST(:services AS uuid[]),
            :removed_of)
    """
)
# Twice as long with each failure, up to a day.
DEFER = text(
    """
    INSERT INTO retention.policy_deferred AS d
        (policy, key, service_id, reason, sqlstate, refused_by, attempts, first_failed_at, last_failed_at,
         next_attempt_at)
    SELECT :policy, given.*, 1, :now, :now, :now + make_interval(secs => :first_seconds)
    FROM unnest(CAST(:keys AS text[]), CAST(:services AS uuid[]), CAST(:reasons AS text[]), CAST(:states AS text[]),
                CAST(:refused_by AS text[])) AS given
    ON CONFLICT (policy, key) DO UPDATE
    SET reason = excluded.reason, sqlstate = excluded.sqlstate, refused_by = excluded.refused_by,
        service_id = excluded.service_id, attempts = d.attempts + 1, last_failed_at = excluded.last_failed_at,
        next_attempt_at = :now + make_interval(secs => least(86400, :first_seconds * power(2, least(d.attempts, 20))))
    """
)
FORGET = text("DELETE FROM retention.policy_deferred WHERE policy = :policy AND key = ANY (:keys)")
# They were due when the sweep began, and it did not meet them: they are gone, or no longer past their time.
FORGET_VANISHED = text(
    """
    DELETE FROM retention.policy_deferred
    WHERE policy = :policy AND next_attempt_at <= :before AND last_failed_at <= :before
    """
)
DEFERRED = text(
    """
    SELECT policy, key, service_id, reason, sqlstate, refused_by, attempts, first_failed_at, next_attempt_at
    FROM retention.policy_deferred WHERE CAST(:policy AS text) IS NULL OR policy = :policy
    ORDER BY first_failed_at LIMIT :limit
    """
)
RETRY = text(
    """
    UPDATE retention.policy_deferred SET next_attempt_at = :now
    WHERE CAST(:policy AS text) IS NULL OR policy = :policy
    """
)
STATES = text("SELECT state, reason FROM retention.policy_sweeps WHERE id = ANY (:ids) ORDER BY id")
LATEST = text(
    """
    SELECT DISTINCT ON (policy) policy, state, reason, started_at, finished_at, rows, files, missing, deferred
    FROM retention.policy_sweeps ORDER BY policy, started_at DESC
    """
)


@dataclass(frozen=True)
class Held:
    """Why a row is held back: a code or a kind of error, and what of the database refused it."""

    service_id: UUID | None
    reason: str
    sqlstate: str | None = None
    refused_by: str | None = None


@dataclass(frozen=True)
class DeferredRow:
    """A row that is held back."""

    policy: str
    key: str
    service_id: UUID | None
    reason: str
    sqlstate: str | None
    refused_by: str | None
    attempts: int
    first_failed_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True)
class Latest:
    """The newest sweep of a policy."""

    policy: str
    state: str
    reason: str | None
    started_at: datetime
    finished_at: datetime | None
    rows: int
    files: int
    missing: int
    deferred: int


def begin(
    connection: Connection, periods: Mapping[str, datetime], now: datetime, first: timedelta = timedelta.max
) -> int:
    """Open a sweep for each policy that has none for its period (aware). One that never had any is opened so long after
    its period at most. Returns how many were opened, or were blocked and go on.
    """
    values = {
        "policies": list(periods),
        "periods": list(periods.values()),
        "now": now,
        "first_seconds": min(first, timedelta(days=36500)).total_seconds(),
    }
    return connection.execute(BEGIN, values).rowcount + connection.execute(BEGIN_AGAIN, values).rowcount


def is_open(connection: Connection, policy: str) -> tuple[int, int] | None:
    """Id and step of the policy's sweep that waits or is under way."""
    row = connection.execute(OPEN, {"policy": policy}).one_or_none()
    return None if row is None else (row[0], row[1])


def record(connection: Connection, services: Sequence[tuple[UUID, int]], **values: Any) -> None:
    """Write down what a batch did, in its own transaction."""
    of_services = {"services": [str(one) for one, _ in services], "removed_of": [rows for _, rows in services]}
    connection.execute(RECORD, {**values, **of_services})


def defer(connection: Connection, policy: str, held: Mapping[str, Held], now: datetime, first_seconds: float) -> None:
    """Hold these rows back, by their keys."""
    if held:
        values = {
            "policy": policy,
            "keys": list(held),
            "services": [one.service_id and str(one.service_id) for one in held.values()],
            "reasons": [one.reason for one in held.values()],
            "states": [one.sqlstate for one in held.values()],
            "refused_by": [one.refused_by for one in held.values()],
            "now": now,
            "first_seconds": first_seconds,
        }
        connection.execute(DEFER, values)


def forget(connection: Connection, policy: str, keys: Collection[str]) -> None:
    """These rows are gone."""
    connection.execute(FORGET, {"policy": policy, "keys": list(keys)})


def forget_vanished(connection: Connection, policy: str, before: datetime) -> None:
    """Forget rows that were due at a sweep's beginning and that it did not meet."""
    connection.execute(FORGET_VANISHED, {"policy": policy, "before": before})


def deferred(connection: Connection, policy: str | None, limit: int) -> list[DeferredRow]:
    """Rows that are held back, the longest first."""
    return [DeferredRow(*row) for row in connection.execute(DEFERRED, {"policy": policy, "limit": limit})]


def retry(connection: Connection, policy: str | None, now: datetime) -> int:
    """Make rows that are held back due again. Returns how many."""
    return connection.execute(RETRY, {"policy": policy, "now": now}).rowcount


def states(connection: Connection, ids: Collection[int]) -> list[tuple[str, str | None]]:
    """The states of these sweeps, and why they rest."""
    return [(row[0], row[1]) for row in connection.execute(STATES, {"ids": list(ids)})]


def latest(connection: Connection) -> list[Latest]:
    """The newest sweep of each policy."""
    return [Latest(*row) for row in connection.execute(LATEST)]
