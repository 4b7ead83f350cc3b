"""Chains: one row per type, stage and slice of a night, for one service or for many. The row is the truth, messages
only wake it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao import leases, turns_dao
from app.dao.leases import Lease, LeasedTable

REAL, TEST, DEFERRED = "real", "test", "deferred"

COLUMNS = (
    *("night", "notification_type", "service_id", "days", "cutoff", "stage", "slice", "slice_from", "slice_before"),
    *("first_service", "last_service", "after_service", "step", "lower_bound", "rows_per_step", "state", "reason"),
    *("due_at", "setbacks", "alone_letter", "alone_failures", "created_at"),
)
CHAINS = LeasedTable(
    "retention.chains",
    "id",
    open=("state = 'waiting'",),
    returns=COLUMNS,
    wake=("id", "step", "service_id", "notification_type", "cutoff", "stage"),
    step="step",
    blocked="resting",
    unblocked="waiting",
)

OF_GROUP = """
    night = :night AND notification_type = :notification_type AND cutoff = :cutoff AND stage = :stage
    AND CASE WHEN :days IS NULL THEN service_id = CAST(:service_id AS uuid)
             ELSE service_id IS NULL AND days = CAST(:days AS integer) END
"""

# A group is opened once, with its slices; opened again, those of it that ended begin anew between their bounds.
REOPEN = text(
    f"""
    UPDATE retention.chains
    SET state = 'waiting', step = step + 1, due_at = :due_at, sent_at = :sent_at, wakes = 0, attempts = 0,
        setbacks = 0, alone_letter = NULL, alone_failures = 0, lower_bound = NULL, after_service = first_service,
        reason = NULL, ended_at = NULL
    WHERE {OF_GROUP} AND state = 'ended'
    RETURNING id, step
    """  # noqa: S608 - constants of this module
)
IS_OPEN = text(f"SELECT EXISTS (SELECT FROM retention.chains WHERE {OF_GROUP})")  # noqa: S608
OPEN = text(
    """
    INSERT INTO retention.chains
        (night, notification_type, service_id, days, cutoff, stage, slice, slice_from, slice_before, first_service,
         last_service, after_service, due_at, sent_at, created_at)
    VALUES (:night, :notification_type, :service_id, :days, :cutoff, :stage, :slice, :slice_from, :slice_before,
            :first_service, :last_service, :first_service, :due_at, :sent_at, :now)
    ON CONFLICT DO NOTHING
    RETURNING id, step
    """
)
# For services that have none yet in this night.
OPEN_EACH = text(
    """
    INSERT INTO retention.chains (night, notification_type, service_id, cutoff, stage, due_at, sent_at, created_at)
    SELECT :night, :notification_type, one.service_id, one.cutoff, 'real', one.due_at,
           CASE WHEN :sent AND one.due_at <= :now THEN CAST(:now AS timestamptz) END, :now
    FROM unnest(CAST(:services AS uuid[]), CAST(:cutoffs AS timestamptz[]), CAST(:due_ats AS timestamptz[]))
        AS one (service_id, cutoff, due_at)
    ON CONFLICT DO NOTHING
    RETURNING id, step, service_id, notification_type, cutoff, stage, due_at
    """
)
# Of services that need a chain of their own: the chain of many passes them by from then on.
HAND_OVER = text(
    """
    INSERT INTO retention.chains
        (night, notification_type, service_id, cutoff, stage, slice, due_at, sent_at, created_at)
    SELECT :night, :notification_type, service_id, :cutoff, :stage, 0, :now, :now, :now
    FROM unnest(CAST(:services AS uuid[])) AS service_id
    ON CONFLICT DO NOTHING
    RETURNING id, step, service_id, notification_type, cutoff, stage
    """
)

# The other slices of a chain's group: they were opened together, so that their number does not change.
OTHERS = text(f"SELECT state FROM retention.chains WHERE {OF_GROUP} AND id <> :id")  # noqa: S608

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

IS_LIFTED = """
    reason = 'paused' AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = 'pipeline')
    OR reason = 'on-hold' AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = service_id::text)
"""
RESTS_FOR_PRECONDITION = text(
    "SELECT EXISTS (SELECT FROM retention.chains WHERE state = 'resting' AND reason = 'precondition')"
)
IS_UNBLOCKED = """
    reason = 'precondition'
    AND NOT (CASE stage WHEN 'test' THEN 'test-' ELSE '' END || notification_type) = ANY (:policies)
"""
IS_ACCEPTED = "reason = 'missing-files' AND night = :night AND missing_in = :bucket"
# What the database refused may be repaired now: a person says so, or another night begins.
IS_OF_REFUSED = """
    reason = ANY (:reasons)
    AND (:service_id IS NULL OR service_id = CAST(:service_id AS uuid) OR service_id IS NULL)
"""
END_REFUSED = text(
    """
    UPDATE retention.chains
    SET state = 'ended', ended_at = :now
    WHERE state = 'resting' AND reason = ANY (:reasons)
      AND notification_type = :notification_type AND night < :night
    """
)
RESTING_FOR_MISSING = text(
    """
    SELECT DISTINCT night, missing_in FROM retention.chains
    WHERE state = 'resting' AND reason = 'missing-files' AND missing_in IS NOT NULL
    """
)

WITH_OWN = text(
    """
    SELECT DISTINCT service_id FROM retention.chains
    WHERE night = :night AND notification_type = :notification_type AND stage = 'real' AND service_id IS NOT NULL
    """
)

IS_UNDER_WAY = text(
    """
    SELECT EXISTS (SELECT FROM retention.chains
                   WHERE service_id = :service_id AND notification_type = :notification_type
                     AND stage = ANY (:stages) AND state <> 'ended')
    """
)


@dataclass(frozen=True)
class Group:
    """What the slices of a chain share: they are for one service, or for all that keep the type for so many days. The
    cut-off is aware.
    """

    night: date
    notification_type: str
    service_id: UUID | None
    cutoff: datetime
    stage: str
    days: int | None = None

    def values(self) -> dict[str, object]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Wake:
    """A chain's wake-up: what a message must carry."""

    chain: int
    step: int
    service_id: UUID | None
    notification_type: str
    cutoff: datetime
    stage: str


@dataclass(frozen=True)
class Chain:
    """A chain as it was when its lease was taken. Times are aware."""

    id: int
    night: date
    notification_type: str
    service_id: UUID | None
    days: int | None
    cutoff: datetime
    stage: str
    slice: int
    slice_from: datetime | None
    slice_before: datetime | None
    first_service: UUID | None
    last_service: UUID | None
    after_service: UUID | None
    step: int
    lower_bound: datetime | None
    rows_per_step: int | None
    state: str
    reason: str | None
    due_at: datetime
    setbacks: int
    alone_letter: UUID | None
    alone_failures: int
    created_at: datetime
    lease: Lease

    @property
    def group(self) -> Group:
        return Group(self.night, self.notification_type, self.service_id, self.cutoff, self.stage, self.days)

    def wake(self, step: int) -> Wake:
        """The wake-up for a step of this chain."""
        return Wake(self.id, step, self.service_id, self.notification_type, self.cutoff, self.stage)


@dataclass(frozen=True)
class Slice:
    """A part of what a group's chains do: a range of time (aware, from, before), of one service; or, of many services,
    those with an id above the first up to the last.
    """

    slice_from: datetime | None = None
    slice_before: datetime | None = None
    first_service: UUID | None = None
    last_service: UUID | None = None


WHOLE = (Slice(),)


def open_group(
    connection: Connection, group: Group, slices: Sequence[Slice], due_at: datetime, now: datetime, *, sent: bool
) -> list[Wake]:
    """Open a chain for each slice, or the ended ones of the group again.

    Returns wake-ups for the chains that this call opened; one that is under way is left as it is. `sent` says
    that the caller sends these wake-ups; otherwise the dispatcher does, once they are due.
    """
    values = {**group.values(), "due_at": due_at, "now": now, "sent_at": now if sent else None}
    if connection.execute(IS_OPEN, values).scalar():
        opened = list(connection.execute(REOPEN, values))
    else:
        opened = []
        for number, one in enumerate(slices):
            opened += connection.execute(OPEN, {**values, **vars(one), "slice": number})
    return [
        Wake(row[0], row[1], group.service_id, group.notification_type, group.cutoff, group.stage) for row in opened
    ]


def open_each(
    connection: Connection,
    night: date,
    notification_type: str,
    services: Sequence[tuple[UUID, datetime, datetime]],
    now: datetime,
    *,
    sent: bool,
) -> list[Wake]:
    """Open a chain for each service, with its cut-off and its due time (aware). Returns wake-ups of those that are due.

    `sent` says that the caller sends them; otherwise the dispatcher does.
    """
    ids, cutoffs, due_ats = (list(column) for column in zip(*services, strict=True))
    values = {"services": ids, "cutoffs": cutoffs, "due_ats": due_ats, "now": now, "sent": sent}
    opened = connection.execute(OPEN_EACH, {**values, "night": night, "notification_type": notification_type})
    return [Wake(*row[:-1]) for row in opened if row.due_at <= now]


def hand_over(connection: Connection, group: Group, services: Collection[UUID], now: datetime) -> list[Wake]:
    """Give services of a group a chain each. Returns their wake-ups, which the caller sends."""
    if not services:
        return []
    values = {**group.values(), "services": list(services), "now": now}
    return [Wake(*row) for row in connection.execute(HAND_OVER, values)]


def is_last_of_group(connection: Connection, chain: Chain) -> bool:
    """Whether every other slice of the chain's group has ended. Of two that end at once, the second one is the last.

    Their rows are locked by whoever works on them, for as long as that takes: they take turns on another one.
    """
    values = {**chain.group.values(), "id": chain.id}
    states = connection.execute(OTHERS, values).scalars().all()
    if states:
        turns_dao.take(connection, turns_dao.SLICES)
        states = connection.execute(OTHERS, values).scalars().all()
    return set(states) <= {"ended"}


def wake_waiting(connection: Connection, reason: str, now: datetime) -> list[Wake]:
    """Make chains due that wait for this reason; the caller sends their wake-ups."""
    return [Wake(*row) for row in connection.execute(WAKE_WAITING, {"reason": reason, "now": now})]


def wake_rested(connection: Connection, now: datetime) -> int:
    """Let chains go on whose hold or pause has been lifted. Returns how many."""
    return leases.unblock(connection, CHAINS, IS_LIFTED, now)


def rests_for_precondition(connection: Connection) -> bool:
    """Whether a chain rests because something is not as it must be."""
    return bool(connection.execute(RESTS_FOR_PRECONDITION).scalar())


def wake_unblocked(connection: Connection, blocked: Collection[str], now: datetime) -> int:
    """Let chains go on that rested for a precondition, but those of blocked policies. Returns how many."""
    return leases.unblock(connection, CHAINS, IS_UNBLOCKED, now, policies=list(blocked))


def resting_for_missing_files(connection: Connection) -> list[tuple[date, str]]:
    """The nights and buckets for which chains rest because too many letters have no file."""
    return [(row[0], row[1]) for row in connection.execute(RESTING_FOR_MISSING)]


def wake_accepted(connection: Connection, night: date, bucket: str, now: datetime) -> int:
    """Let chains of the night go on that rest because of missing files in the bucket. Returns how many."""
    return leases.unblock(connection, CHAINS, IS_ACCEPTED, now, night=night, bucket=bucket)


def wake_refused(connection: Connection, reasons: Sequence[str], service_id: UUID | None, now: datetime) -> int:
    """Let chains go on whose rows the database refused, of this service or of all. Returns how many."""
    return leases.unblock(connection, CHAINS, IS_OF_REFUSED, now, reasons=list(reasons), service_id=service_id)


def end_refused(
    connection: Connection, reasons: Sequence[str], notification_type: str, night: date, now: datetime
) -> int:
    """End chains of nights before this one whose rows the database refused: the night's own try again."""
    values = {"reasons": list(reasons), "notification_type": notification_type, "night": night, "now": now}
    return connection.execute(END_REFUSED, values).rowcount


def services_with_own(connection: Connection, night: date, notification_type: str) -> set[UUID]:
    """Services that have chains of their own in this night."""
    values = {"night": night, "notification_type": notification_type}
    return set(connection.execute(WITH_OWN, values).scalars())


def is_under_way(connection: Connection, service_id: UUID, notification_type: str, stages: Sequence[str]) -> bool:
    """Whether a chain of the service and type, of any night and one of the stages, has not ended."""
    values = {"service_id": service_id, "notification_type": notification_type, "stages": list(stages)}
    return bool(connection.execute(IS_UNDER_WAY, values).scalar())
