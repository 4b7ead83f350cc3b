"""Chains: one row per service, type, stage and slice of a night. The row is the truth, messages only wake it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

REAL, TEST, DEFERRED = "real", "test", "deferred"

COLUMNS = """
    id, night, notification_type, service_id, cutoff, stage, slice, slice_from, slice_before, step,
    lower_bound, rows_per_step, state, reason, due_at, attempts, setbacks, alone_letter, alone_failures, lease_token,
    created_at
"""

OF_GROUP = """
    night = :night AND notification_type = :notification_type AND service_id = :service_id
    AND cutoff = :cutoff AND stage = :stage
"""

# A group is opened once, with its slices; opened again, those of it that ended begin anew between their bounds.
REOPEN = text(
    f"""
    UPDATE retention.chains
    SET state = 'waiting', step = step + 1, due_at = :due_at, sent_at = :sent_at, wakes = 0, attempts = 0,
        setbacks = 0, alone_letter = NULL, alone_failures = 0, lower_bound = NULL, reason = NULL, ended_at = NULL
    WHERE {OF_GROUP} AND state = 'ended'
    RETURNING id, step
    """  # noqa: S608 - constants of this module
)
IS_OPEN = text(f"SELECT EXISTS (SELECT FROM retention.chains WHERE {OF_GROUP})")  # noqa: S608
OPEN = text(
    """
    INSERT INTO retention.chains
        (night, notification_type, service_id, cutoff, stage, slice, slice_from, slice_before, due_at,
         sent_at, created_at)
    VALUES (:night, :notification_type, :service_id, :cutoff, :stage, :slice, :slice_from, :slice_before,
            :due_at, :sent_at, :now)
    ON CONFLICT DO NOTHING
    RETURNING id, step
    """
)

# The task that holds the lease may take it again: a broker that hands a dead worker's message on keeps its id.
# From the second attempt on, the next one after this must wait, so that a step that kills its worker can't spin.
LEASE = text(
    f"""
    UPDATE retention.chains
    SET lease_token = :token, lease_holder = :holder, lease_until = :lease_until, attempts = attempts + 1,
        due_at = CASE WHEN attempts = 0 THEN due_at
                      ELSE :now + make_interval(secs => least(:longest, :base * power(2, least(attempts, 20) - 1)))
                 END
    WHERE id = :id AND step = :step AND state = 'waiting' AND due_at <= :now
      AND (lease_until IS NULL OR lease_until <= :now OR lease_holder = :holder)
    RETURNING {COLUMNS}
    """  # noqa: S608
)

ADVANCE = text(
    """
    UPDATE retention.chains
    SET step = step + 1, state = :state, reason = :reason, missing_in = :missing_in,
        due_at = :due_at, sent_at = :sent_at,
        lower_bound = :lower_bound, rows_per_step = :rows_per_step, setbacks = :setbacks, ended_at = :ended_at,
        alone_letter = :alone_letter, alone_failures = :alone_failures,
        wakes = 0, attempts = 0, lease_token = NULL, lease_holder = NULL, lease_until = NULL, last_error = NULL
    WHERE id = :id AND step = :step AND lease_token = :token
    """
)

FAIL = text(
    """
    UPDATE retention.chains
    SET last_error = :error, due_at = :due_at, sent_at = NULL, rows_per_step = :rows_per_step,
        lease_token = NULL, lease_holder = NULL, lease_until = NULL
    WHERE id = :id AND step = :step AND lease_token = :token
    """
)

POSTPONE = text(
    """
    UPDATE retention.chains
    SET setbacks = CASE WHEN reason = ANY (:reasons) THEN setbacks + 1 ELSE 1 END,
        reason = :reason, due_at = :due_at, sent_at = NULL, wakes = 0, attempts = 0,
        lease_token = NULL, lease_holder = NULL, lease_until = NULL
    WHERE id = :id AND step = :step AND lease_token = :token
    """
)

LOCK_GROUP = text(
    f"SELECT id, state FROM retention.chains WHERE {OF_GROUP} ORDER BY slice FOR UPDATE"  # noqa: S608
)

# Sent again only after a while, ever longer: a deep queue must not fill with the same wake-up.
MOST_DOUBLINGS = 4
# Whoever died under its lease had taken its message: that one no longer waits.
DUE = text(
    """
    UPDATE retention.chains AS chain
    SET sent_at = :now, wakes = wakes + 1
    FROM (
        SELECT id FROM retention.chains
        WHERE state = 'waiting' AND due_at <= :now AND (lease_until IS NULL OR lease_until <= :now)
          AND (sent_at IS NULL OR sent_at <= :now - make_interval(secs => :resend * power(2,
              least(:most, greatest(wakes, CASE WHEN :messages_wait AND lease_until IS NULL THEN :most ELSE 0 END)))))
        ORDER BY due_at
        LIMIT :at_most
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE chain.id = due.id
    RETURNING chain.id, chain.step, chain.service_id, chain.notification_type, chain.cutoff, chain.stage
    """
)

# Those that a worker has now, or that someone else wakes, need no other wake-up.
WAKE_WAITING = text(
    """
    UPDATE retention.chains AS chain
    SET due_at = :now, sent_at = :now, wakes = wakes + 1
    FROM (
        SELECT id FROM retention.chains
        WHERE state = 'waiting' AND reason = :reason AND (lease_until IS NULL OR lease_until <= :now)
        FOR UPDATE SKIP LOCKED
    ) AS waiting
    WHERE chain.id = waiting.id
    RETURNING chain.id, chain.step, chain.service_id, chain.notification_type, chain.cutoff, chain.stage
    """
)

WAKE_RESTED = text(
    """
    UPDATE retention.chains AS chain
    SET state = 'waiting', reason = NULL, due_at = :now, sent_at = NULL
    WHERE state = 'resting' AND (
        (reason = 'paused' AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = 'pipeline'))
        OR (reason = 'on-hold'
            AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = chain.service_id::text))
    )
    """
)
WAKE_ACCEPTED = text(
    """
    UPDATE retention.chains
    SET state = 'waiting', reason = NULL, due_at = :now, sent_at = NULL
    WHERE state = 'resting' AND reason = 'missing-files' AND night = :night AND missing_in = :bucket
    """
)
RESTING_FOR_MISSING = text(
    """
    SELECT DISTINCT night, missing_in FROM retention.chains
    WHERE state = 'resting' AND reason = 'missing-files' AND missing_in IS NOT NULL
    """
)

IS_UNDER_WAY = text(
    """
    SELECT EXISTS (SELECT FROM retention.chains
                   WHERE service_id = :service_id AND notification_type = :notification_type
                     AND stage = ANY (:stages) AND state <> 'ended')
    """
)


class LeaseLost(RuntimeError):
    """Another worker has taken the chain over: whatever this one did in its transaction must be rolled back."""


@dataclass(frozen=True)
class Group:
    """What the slices of a chain share. The cut-off is aware."""

    night: date
    notification_type: str
    service_id: UUID
    cutoff: datetime
    stage: str

    def values(self) -> dict[str, object]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Wake:
    """A chain's wake-up: what a message must carry."""

    chain: int
    step: int
    service_id: UUID
    notification_type: str
    cutoff: datetime
    stage: str


@dataclass(frozen=True)
class Chain:
    """A chain as it was when its lease was taken. Times are aware."""

    id: int
    night: date
    notification_type: str
    service_id: UUID
    cutoff: datetime
    stage: str
    slice: int
    slice_from: datetime | None
    slice_before: datetime | None
    step: int
    lower_bound: datetime | None
    rows_per_step: int | None
    state: str
    reason: str | None
    due_at: datetime
    attempts: int
    setbacks: int
    alone_letter: UUID | None
    alone_failures: int
    lease_token: UUID
    created_at: datetime

    @property
    def group(self) -> Group:
        return Group(self.night, self.notification_type, self.service_id, self.cutoff, self.stage)

    def wake(self, step: int) -> Wake:
        """The wake-up for a step of this chain."""
        return Wake(self.id, step, self.service_id, self.notification_type, self.cutoff, self.stage)


def open_group(
    connection: Connection,
    group: Group,
    slices: Sequence[tuple[datetime | None, datetime | None]],
    due_at: datetime,
    now: datetime,
    *,
    sent: bool,
) -> list[Wake]:
    """Open a chain for each slice `(created_from, created_before)`, or the ended ones of the group again.

    Returns wake-ups for the chains that this call opened; one that is under way is left as it is. `sent` says
    that the caller sends these wake-ups; otherwise the dispatcher does, once they are due.
    """
    values = {**group.values(), "due_at": due_at, "now": now, "sent_at": now if sent else None}
    if connection.execute(IS_OPEN, values).scalar():
        opened = list(connection.execute(REOPEN, values))
    else:
        opened = []
        for number, (slice_from, slice_before) in enumerate(slices):
            bounds = {"slice": number, "slice_from": slice_from, "slice_before": slice_before}
            opened += connection.execute(OPEN, {**values, **bounds})
    return [
        Wake(row[0], row[1], group.service_id, group.notification_type, group.cutoff, group.stage) for row in opened
    ]


def lease(
    connection: Connection,
    chain_id: int,
    step: int,
    *,
    holder: str,
    now: datetime,
    until: datetime,
    retry_base_seconds: float,
    retry_longest_seconds: float,
) -> Chain | None:
    """Take the lease of a chain at its step, or None: the message is stale, early, or another worker has it."""
    values = {
        "id": chain_id,
        "step": step,
        "holder": holder,
        "token": uuid4(),
        "now": now,
        "lease_until": until,
        "base": retry_base_seconds,
        "longest": retry_longest_seconds,
    }
    row = connection.execute(LEASE, values).one_or_none()
    return None if row is None else Chain(*row)


def advance(
    connection: Connection,
    chain: Chain,
    *,
    state: str,
    reason: str | None,
    missing_in: str | None,
    due_at: datetime,
    sent_at: datetime | None,
    lower_bound: datetime | None,
    rows_per_step: int | None,
    setbacks: int,
    alone_letter: UUID | None,
    alone_failures: int,
    ended_at: datetime | None,
) -> None:
    """Count the step as done and give the lease back, in the step's own transaction. Raises LeaseLost."""
    values = {
        "id": chain.id,
        "step": chain.step,
        "token": chain.lease_token,
        "state": state,
        "reason": reason,
        "missing_in": missing_in,
        "due_at": due_at,
        "sent_at": sent_at,
        "lower_bound": lower_bound,
        "rows_per_step": rows_per_step,
        "setbacks": setbacks,
        "alone_letter": alone_letter,
        "alone_failures": alone_failures,
        "ended_at": ended_at,
    }
    if not connection.execute(ADVANCE, values).rowcount:
        raise LeaseLost(f"chain {chain.id} is no longer at step {chain.step} under this lease")


def fail(connection: Connection, chain: Chain, error: str, *, due_at: datetime, rows_per_step: int | None) -> None:
    """Give the lease back after an error, which the row keeps; the same step is due again at `due_at`."""
    values = {"error": error, "due_at": due_at, "rows_per_step": rows_per_step}
    connection.execute(FAIL, {**values, "id": chain.id, "step": chain.step, "token": chain.lease_token})


def postpone(connection: Connection, chain: Chain, reason: str, *, reasons: Sequence[str], due_at: datetime) -> None:
    """Give the lease back without a step, for a reason of the moment; the same step is due at `due_at`.

    `setbacks` counts on while the chain is put off for one of `reasons`, and begins anew otherwise.
    """
    values = {"reason": reason, "reasons": list(reasons), "due_at": due_at}
    connection.execute(POSTPONE, {**values, "id": chain.id, "step": chain.step, "token": chain.lease_token})


def is_last_of_group(connection: Connection, chain: Chain) -> bool:
    """Whether every other slice of the chain's group has ended. Locks the group until the commit."""
    rows = connection.execute(LOCK_GROUP, chain.group.values()).all()
    return all(state == "ended" for other, state in rows if other != chain.id)


def take_due(
    connection: Connection, *, now: datetime, resend_seconds: float, at_most: int, messages_wait: bool
) -> list[Wake]:
    """Chains to be woken: due, not leased, and with no wake-up sent lately. Marks them as sent.

    "Lately" is `resend_seconds`, twice as long with each wake-up, up to 16 times; and 16 times at once while messages
    wait in the queue, since a wake-up that is not answered is most likely one of them.
    """
    values = {
        "now": now,
        "resend": resend_seconds,
        "most": MOST_DOUBLINGS,
        "messages_wait": messages_wait,
        "at_most": at_most,
    }
    return [Wake(*row) for row in connection.execute(DUE, values)]


def wake_waiting(connection: Connection, reason: str, now: datetime) -> list[Wake]:
    """Make chains due that wait for this reason; the caller sends their wake-ups."""
    return [Wake(*row) for row in connection.execute(WAKE_WAITING, {"reason": reason, "now": now})]


def wake_rested(connection: Connection, now: datetime) -> int:
    """Let chains go on whose hold or pause has been lifted. Returns how many."""
    return connection.execute(WAKE_RESTED, {"now": now}).rowcount


def resting_for_missing_files(connection: Connection) -> list[tuple[date, str]]:
    """The nights and buckets for which chains rest because too many letters have no file."""
    return [(row[0], row[1]) for row in connection.execute(RESTING_FOR_MISSING)]


def wake_accepted(connection: Connection, night: date, bucket: str, now: datetime) -> int:
    """Let chains of the night go on that rest because of missing files in the bucket. Returns how many."""
    return connection.execute(WAKE_ACCEPTED, {"night": night, "bucket": bucket, "now": now}).rowcount


def is_under_way(connection: Connection, service_id: UUID, notification_type: str, stages: Sequence[str]) -> bool:
    """Whether a chain of the service and type, of any night and one of the stages, has not ended."""
    values = {"service_id": service_id, "notification_type": notification_type, "stages": list(stages)}
    return bool(connection.execute(IS_UNDER_WAY, values).scalar())
