"""What the ops page asks. Each question is bounded by an index or a cap, and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

LATEST_NIGHT = text("SELECT night, started_at FROM retention.runs ORDER BY night DESC LIMIT 1")

# What the last minutes brought tells how fast it goes now: a night may have begun long ago, and anew by hand.
PROGRESS = text(
    """
    SELECT kind.notification_type,
           type.night IS NOT NULL AND type.fanned_out_at IS NULL AS is_to_fan_out,
           chain.waiting, chain.resting, chain.ended,
           step.removed, step.files_deleted, step.deferred, step.lately, step.lately_from, step.last_at
    FROM unnest(CAST(:types AS text[])) WITH ORDINALITY AS kind (notification_type, place)
    LEFT JOIN retention.run_types AS type
           ON type.night = :night AND type.notification_type = kind.notification_type
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
               count(*) FILTER (WHERE state = 'resting') AS resting,
               count(*) FILTER (WHERE state = 'ended') AS ended
        FROM retention.chains WHERE night = :night AND notification_type = kind.notification_type
    ) AS chain
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(moved + deleted), 0) AS removed, coalesce(sum(files_deleted), 0) AS files_deleted,
               coalesce(sum(deferred), 0) AS deferred,
               coalesce(sum(moved + deleted) FILTER (WHERE started_at >= :lately), 0) AS lately,
               min(started_at) FILTER (WHERE started_at >= :lately) AS lately_from,
               max(started_at + make_interval(secs => seconds)) AS last_at
        FROM retention.steps WHERE night = :night AND notification_type = kind.notification_type
    ) AS step
    ORDER BY kind.place
    """
)

NIGHTS = text(
    """
    SELECT night, sum(moved) AS moved, sum(deleted) AS deleted, sum(files_deleted) AS files_deleted
    FROM retention.steps
    WHERE night >= :since
    GROUP BY night
    ORDER BY night
    """
)

HELD_BACK_BY_REASON = text(
    """
    SELECT concat_ws(' ', reason, sqlstate, refused_by) AS why, reason, count(*) AS rows,
           count(DISTINCT service_id) AS services, max(attempts) AS attempts,
           min(first_failed_at) AS since, min(next_attempt_at) AS next_attempt_at
    FROM retention.deferred_rows
    GROUP BY reason, sqlstate, refused_by
    ORDER BY rows DESC, reason
    """
)

RESTING = text(
    """
    SELECT reason, count(*) AS chains, count(DISTINCT service_id) AS services
    FROM retention.chains
    WHERE state = 'resting'
    GROUP BY reason
    ORDER BY reason
    """
)

DELETIONS = text(
    """
    SELECT state, count(*) AS accounts, min(requested_at) AS since
    FROM user_deletions
    WHERE state = ANY (:states)
    GROUP BY state
    ORDER BY state
    """
)
KEPT_DELETIONS = text(
    """
    SELECT user_id, state, reason, attempts, requested_at FROM user_deletions
    WHERE state = ANY (:states) AND reason IS NOT NULL
    ORDER BY requested_at
    LIMIT :at_most
    """
)
IN_FLIGHT = ("requested", "running", "blocked")


@dataclass(frozen=True)
class TypeProgress:
    """A type of a night: its chains by state, and what their steps did. Times are aware.

    `lately` rows were removed since `lately_from`, which is None when there was no step lately.
    """

    notification_type: str
    is_to_fan_out: bool
    waiting: int
    resting: int
    ended: int
    removed: int
    files_deleted: int
    deferred: int
    lately: int
    lately_from: datetime | None
    last_at: datetime | None


@dataclass(frozen=True)
class Night:
    """What a night's steps did, by hand or by beat."""

    night: date
    moved: int
    deleted: int
    files_deleted: int


@dataclass(frozen=True)
class HeldBack:
    """Rows that are held back for the same reason. `why` also names what refused them, if that was the database."""

    why: str
    reason: str
    rows: int
    services: int
    attempts: int
    since: datetime
    next_attempt_at: datetime


@dataclass(frozen=True)
class Resting:
    """Chains that rest for the same reason."""

    reason: str
    chains: int
    services: int


@dataclass(frozen=True)
class Deletions:
    """Accounts whose deletion is in the same state, the oldest since `since`."""

    state: str
    accounts: int
    since: datetime


@dataclass(frozen=True)
class KeptDeletion:
    """A deletion that can't go on for now, and why: names of the schema, ids and codes."""

    user_id: UUID
    state: str
    reason: str
    attempts: int
    since: datetime


def latest_night(connection: Connection) -> tuple[date, datetime] | None:
    """The latest night that has a run, and when that began; None if none ever was."""
    row = connection.execute(LATEST_NIGHT).one_or_none()
    return None if row is None else (row[0], row[1])


def progress(connection: Connection, night: date, types: Sequence[str], lately: datetime) -> list[TypeProgress]:
    """How far each type of the night is; `lately` (aware) is since when the speed is measured."""
    values = {"night": night, "types": list(types), "lately": lately}
    return [TypeProgress(*row) for row in connection.execute(PROGRESS, values)]


def nights(connection: Connection, since: date) -> list[Night]:
    """What was done in each night since then that did something."""
    return [Night(*row) for row in connection.execute(NIGHTS, {"since": since})]


def held_back_by_reason(connection: Connection) -> list[HeldBack]:
    """Letters that are held back, by reason, the most first."""
    return [HeldBack(*row) for row in connection.execute(HELD_BACK_BY_REASON)]


def resting(connection: Connection) -> list[Resting]:
    """Chains of all nights that rest, by reason."""
    return [Resting(*row) for row in connection.execute(RESTING)]


def deletions_in_flight(connection: Connection) -> list[Deletions]:
    """Accounts that are being deleted, by state."""
    return [Deletions(*row) for row in connection.execute(DELETIONS, {"states": list(IN_FLIGHT)})]


def kept_deletions(connection: Connection, at_most: int) -> list[KeptDeletion]:
    """Deletions that something keeps, those that were asked for first."""
    return [
        KeptDeletion(*row)
        for row in connection.execute(KEPT_DELETIONS, {"states": list(IN_FLIGHT), "at_most": at_most})
    ]
