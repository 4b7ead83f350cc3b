"""Rows that are held back, each with a reason and a next attempt: letters whose files could not be deleted, one by one
or a bucket's all together, and rows of any type whose removal the database refused.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao import platform_dao
from app.models.types import LETTER
from app.refusals import Refusal

NOT_ELIGIBLE_PAUSE = timedelta(hours=1)

# The n-th failure is followed by a pause of first * 2^(n-1), at most a day.
NEXT_ATTEMPT = ":now + make_interval(secs => least(86400, :first * power(2, least({attempts}, 30) - 1)))"

DEFER_ROWS = text(
    f"""
    INSERT INTO retention.deferred_rows AS d
        (notification_id, service_id, notification_type, kind, cutoff, reason, sqlstate, refused_by, attempts,
         first_failed_at, last_failed_at, next_attempt_at, needs_person)
    SELECT failed.id, :service_id, :notification_type, :kind, :cutoff, failed.reason, failed.sqlstate,
           failed.refused_by, 1, :now, :now, {NEXT_ATTEMPT.format(attempts="1")}, 1 >= :attempts_before_person
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:sqlstates AS text[]), CAST(:refused_by AS text[]))
         AS failed (id, reason, sqlstate, refused_by)
    ON CONFLICT (notification_id) DO UPDATE
    SET reason = excluded.reason, sqlstate = excluded.sqlstate, refused_by = excluded.refused_by,
        cutoff = greatest(d.cutoff, excluded.cutoff), attempts = d.attempts + 1,
        last_failed_at = excluded.last_failed_at,
        next_attempt_at = {NEXT_ATTEMPT.format(attempts="(d.attempts + 1)")},
        needs_person = d.attempts + 1 >= :attempts_before_person
    """  # noqa: S608 - constants of this module
)

DEFER_BUCKETS = text(
    f"""
    INSERT INTO retention.deferred_buckets AS d
        (service_id, bucket, kind, cutoff, reason, attempts, first_failed_at, last_failed_at, next_attempt_at)
    SELECT :service_id, failed.bucket, :kind, :cutoff, failed.reason, 1, :now, :now,
           {NEXT_ATTEMPT.format(attempts="1")}
    FROM unnest(CAST(:buckets AS text[]), CAST(:reasons AS text[])) AS failed (bucket, reason)
    ON CONFLICT (service_id, bucket, kind) DO UPDATE
    SET reason = excluded.reason, cutoff = greatest(d.cutoff, excluded.cutoff), attempts = d.attempts + 1,
        last_failed_at = excluded.last_failed_at,
        next_attempt_at = {NEXT_ATTEMPT.format(attempts="(d.attempts + 1)")}
    """  # noqa: S608
)

BROKEN_BUCKETS = text(
    """
    SELECT bucket FROM retention.deferred_buckets
    WHERE service_id = :service_id AND kind = :kind AND next_attempt_at > :now
    """
)
# Not deleted: another slice's chain may have passed the bucket's letters over and ended. The record brings a chain that
# looks at the whole service, and goes when that one has nothing left.
BUCKETS_ANSWER = text(
    """
    UPDATE retention.deferred_buckets SET next_attempt_at = :now
    WHERE service_id = :service_id AND kind = :kind AND bucket = ANY (:buckets) AND next_attempt_at > :now
    """
)
FORGET_ROWS = text("DELETE FROM retention.deferred_rows WHERE notification_id = ANY (:ids)")
ATTEMPTS = text("SELECT notification_id, attempts FROM retention.deferred_rows WHERE notification_id = ANY (:ids)")
IS_KNOWN = text("SELECT EXISTS (SELECT FROM retention.deferred_rows WHERE notification_id = :id)")
FORGET_VANISHED = """
    DELETE FROM retention.deferred_rows AS d
    WHERE d.service_id = :service_id AND d.notification_type = :notification_type AND d.kind = :kind
      AND NOT EXISTS (SELECT FROM {notifications} AS n WHERE n.id = d.notification_id)
    """

# A chain that has nothing left, and a record that is due: its row is not final again, or is kept longer now.
PUT_OFF_ROWS = text(
    """
    UPDATE retention.deferred_rows SET next_attempt_at = :later
    WHERE service_id = :service_id AND notification_type = :notification_type AND kind = :kind
      AND next_attempt_at <= :now
    """
)
FORGET_BUCKETS_DUE = text(
    """
    DELETE FROM retention.deferred_buckets
    WHERE service_id = :service_id AND kind = :kind AND next_attempt_at <= :now
    """
)

# Not those that have a chain, under way or resting: it meets them, and they must not use up the limit.
DUE = text(
    """
    SELECT service_id, notification_type, kind, max(cutoff)
    FROM (
        SELECT service_id, notification_type, kind, cutoff, next_attempt_at FROM retention.deferred_rows
        WHERE next_attempt_at <= :now
        UNION ALL
        SELECT service_id, 'letter', kind, cutoff, next_attempt_at FROM retention.deferred_buckets
        WHERE next_attempt_at <= :now
    ) AS due
    WHERE NOT EXISTS (
        SELECT FROM retention.chains AS chain
        WHERE chain.service_id = due.service_id AND chain.notification_type = due.notification_type
          AND chain.stage = CASE due.kind WHEN 'test' THEN 'test' ELSE 'deferred' END
          AND chain.state <> 'ended'
    )
    GROUP BY service_id, notification_type, kind
    ORDER BY min(next_attempt_at)
    LIMIT :at_most
    """
)

RETRY_ROWS = text(
    """
    UPDATE retention.deferred_rows SET next_attempt_at = :now
    WHERE (:ids IS NULL OR notification_id = ANY (CAST(:ids AS uuid[])))
      AND (:service_id IS NULL OR service_id = CAST(:service_id AS uuid))
      AND (:reason IS NULL OR reason = :reason)
    """
)
RETRY_BUCKETS = text(
    """
    UPDATE retention.deferred_buckets SET next_attempt_at = :now
    WHERE (:service_id IS NULL OR service_id = CAST(:service_id AS uuid))
      AND (:reason IS NULL OR reason = :reason)
    """
)

ROWS = text(
    """
    SELECT notification_id, service_id, notification_type, kind, reason, sqlstate, refused_by, attempts,
           first_failed_at, next_attempt_at, needs_person
    FROM retention.deferred_rows
    ORDER BY needs_person DESC, first_failed_at, notification_id
    LIMIT :at_most
    """
)
BUCKETS = text(
    """
    SELECT bucket, reason, count(*) AS services, max(attempts) AS attempts,
           min(first_failed_at) AS first_failed_at, min(next_attempt_at) AS next_attempt_at
    FROM retention.deferred_buckets
    GROUP BY bucket, reason
    ORDER BY bucket, reason
    """
)
COUNT_ROWS = text(
    """
    SELECT notification_type, count(*), count(*) FILTER (WHERE needs_person) FROM retention.deferred_rows
    GROUP BY notification_type
    """
)

REFUSED_BEFORE = text(
    """
    SELECT notification_id FROM retention.deferred_rows
    WHERE notification_id = ANY (:ids) AND refused_by IS NOT NULL
    """
)
COUNT_REFUSED = text(
    """
    SELECT count(*) FROM retention.deferred_rows
    WHERE service_id = :service_id AND notification_type = :notification_type AND kind = :kind
      AND refused_by IS NOT NULL
    """
)


@dataclass(frozen=True)
class Reason:
    """Why a row is held back: a code, and the schema's name for what refused it, if that was the database."""

    code: str
    sqlstate: str | None = None
    refused_by: str | None = None
    """The constraint, trigger function or table that refused, in words; None if it was not the database."""

    @classmethod
    def of(cls, refusal: Refusal) -> "Reason":
        """The reason for a row that the database refused."""
        return cls(refusal.kind, refusal.sqlstate, refusal.where or "the database")


@dataclass(frozen=True)
class Whose:
    """Whose rows: the service, the type, and whether real or test ones; `cutoff` (aware) is what they are past."""

    service_id: UUID
    notification_type: str
    kind: str
    cutoff: datetime


@dataclass(frozen=True)
class DeferredRow:
    """A notification that is held back."""

    notification_id: UUID
    service_id: UUID
    notification_type: str
    kind: str
    reason: str
    sqlstate: str | None
    refused_by: str | None
    attempts: int
    first_failed_at: datetime
    next_attempt_at: datetime
    needs_person: bool


@dataclass(frozen=True)
class DeferredBucketRow:
    """A bucket whose letters are passed over, for how many services."""

    bucket: str
    reason: str
    services: int
    attempts: int
    first_failed_at: datetime
    next_attempt_at: datetime


def defer_rows(
    connection: Connection,
    whose: Whose,
    reasons: Mapping[UUID, Reason],
    *,
    now: datetime,
    first_seconds: float,
    attempts_before_person: int,
) -> None:
    """Record rows that stay, each with its reason."""
    values = {
        **whose.__dict__,
        "now": now,
        "first": first_seconds,
        "attempts_before_person": attempts_before_person,
        "ids": list(reasons),
        "codes": [reason.code for reason in reasons.values()],
        "sqlstates": [reason.sqlstate for reason in reasons.values()],
        "refused_by": [reason.refused_by for reason in reasons.values()],
    }
    connection.execute(DEFER_ROWS, values)


def defer_buckets(
    connection: Connection, whose: Whose, reasons: Mapping[str, str], *, now: datetime, first_seconds: float
) -> None:
    """Record buckets whose letters are passed over, one record for all of them."""
    values = {
        **whose.__dict__,
        "now": now,
        "first": first_seconds,
        "buckets": list(reasons),
        "reasons": list(reasons.values()),
    }
    connection.execute(DEFER_BUCKETS, values)


def broken_buckets(connection: Connection, service_id: UUID, kind: str, now: datetime) -> set[str]:
    """Buckets whose letters are passed over for now."""
    values = {"service_id": service_id, "kind": kind, "now": now}
    return set(connection.execute(BROKEN_BUCKETS, values).scalars())


def buckets_answered(
    connection: Connection, service_id: UUID, kind: str, buckets: Collection[str], now: datetime
) -> None:
    """Buckets have answered: those passed over are due at once."""
    if buckets:
        values = {"service_id": service_id, "kind": kind, "buckets": list(buckets), "now": now}
        connection.execute(BUCKETS_ANSWER, values)


def forget_rows(connection: Connection, ids: Sequence[UUID]) -> None:
    """Forget rows that have moved."""
    connection.execute(FORGET_ROWS, {"ids": list(ids)})


def attempts(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How often each of these rows was held back; rows that never were are left out."""
    return {row[0]: row[1] for row in connection.execute(ATTEMPTS, {"ids": list(ids)})}


def is_known(connection: Connection, letter_id: UUID) -> bool:
    """Whether the letter was held back before, be it due again."""
    return bool(connection.execute(IS_KNOWN, {"id": letter_id}).scalar())


def refused_before(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of these rows that are held back because the database refused them, be they due again."""
    return set(connection.execute(REFUSED_BEFORE, {"ids": list(ids)}).scalars())


def count_refused(connection: Connection, whose: Whose) -> int:
    """How many rows of the service and type the database has refused and are held back for that."""
    return int(connection.execute(COUNT_REFUSED, vars(whose)).scalar_one())


def forget_vanished(connection: Connection, whose: Whose) -> None:
    """Forget rows that are no longer there, by our doing or another's."""
    connection.execute(platform_dao.known(connection).clause(FORGET_VANISHED), vars(whose))


def put_off(connection: Connection, whose: Whose, now: datetime) -> None:
    """Records that are due though the chain that meets them has nothing left: they would be due for ever.

    Rows get another hour; buckets that no eligible letter needs are forgotten.
    """
    values = {**vars(whose), "now": now, "later": now + NOT_ELIGIBLE_PAUSE}
    connection.execute(PUT_OFF_ROWS, values)
    if whose.notification_type == LETTER:
        connection.execute(FORGET_BUCKETS_DUE, values)


def due(connection: Connection, now: datetime, at_most: int) -> list[Whose]:
    """Services and types that have deferred rows, or buckets, whose next attempt is due."""
    return [Whose(*row) for row in connection.execute(DUE, {"now": now, "at_most": at_most})]


def retry_now(
    connection: Connection,
    *,
    now: datetime,
    ids: Sequence[UUID] | None,
    service_id: UUID | None,
    reason: str | None,
) -> int:
    """Make deferred rows, and buckets unless ids are given, due at once. Returns how many records."""
    values = {"now": now, "service_id": service_id, "reason": reason}
    rows = connection.execute(RETRY_ROWS, {**values, "ids": None if ids is None else list(ids)}).rowcount
    return rows if ids is not None else rows + connection.execute(RETRY_BUCKETS, values).rowcount


def rows(connection: Connection, at_most: int) -> list[DeferredRow]:
    """Deferred rows, the longest held back first."""
    return [DeferredRow(*row) for row in connection.execute(ROWS, {"at_most": at_most})]


def buckets(connection: Connection) -> list[DeferredBucketRow]:
    """Buckets that are missing or refuse everything."""
    return [DeferredBucketRow(*row) for row in connection.execute(BUCKETS)]


def count_rows(connection: Connection) -> dict[str, tuple[int, int]]:
    """By type, how many rows are deferred, and how many of them need a person. Types without any are left out."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(COUNT_ROWS)}
