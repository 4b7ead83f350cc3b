"""Letters held back because their files could not be deleted, one by one or a bucket's all together."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao import platform_dao

NOT_ELIGIBLE_PAUSE = timedelta(hours=1)

# The n-th failure is followed by a pause of first * 2^(n-1), at most a day.
NEXT_ATTEMPT = ":now + make_interval(secs => least(86400, :first * power(2, least({attempts}, 30) - 1)))"

DEFER_LETTERS = text(
    f"""
    INSERT INTO retention.deferred_letters AS d
        (notification_id, service_id, kind, cutoff, reason, attempts, first_failed_at, last_failed_at,
         next_attempt_at, needs_person)
    SELECT failed.id, :service_id, :kind, :cutoff, failed.reason, 1, :now, :now,
           {NEXT_ATTEMPT.format(attempts="1")}, 1 >= :attempts_before_person
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS failed (id, reason)
    ON CONFLICT (notification_id) DO UPDATE
    SET reason = excluded.reason, cutoff = greatest(d.cutoff, excluded.cutoff), attempts = d.attempts + 1,
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
MEND_BUCKETS = text(
    """
    UPDATE retention.deferred_buckets SET next_attempt_at = :now
    WHERE service_id = :service_id AND kind = :kind AND bucket = ANY (:buckets) AND next_attempt_at > :now
    """
)
FORGET_LETTERS = text("DELETE FROM retention.deferred_letters WHERE notification_id = ANY (:ids)")
IS_KNOWN = text("SELECT EXISTS (SELECT FROM retention.deferred_letters WHERE notification_id = :id)")
FORGET_VANISHED = """
    DELETE FROM retention.deferred_letters AS d
    WHERE d.service_id = :service_id AND d.kind = :kind
      AND NOT EXISTS (SELECT FROM {notifications} AS n WHERE n.id = d.notification_id)
    """

# A chain that has nothing left, and a record that is due: its letter is not final again, or is kept longer now.
PUT_OFF_LETTERS = text(
    """
    UPDATE retention.deferred_letters SET next_attempt_at = :later
    WHERE service_id = :service_id AND kind = :kind AND next_attempt_at <= :now
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
    SELECT service_id, kind, max(cutoff)
    FROM (
        SELECT service_id, kind, cutoff, next_attempt_at FROM retention.deferred_letters
        WHERE next_attempt_at <= :now
        UNION ALL
        SELECT service_id, kind, cutoff, next_attempt_at FROM retention.deferred_buckets
        WHERE next_attempt_at <= :now
    ) AS due
    WHERE NOT EXISTS (
        SELECT FROM retention.chains AS chain
        WHERE chain.service_id = due.service_id AND chain.notification_type = 'letter'
          AND chain.stage = CASE due.kind WHEN 'test' THEN 'test' ELSE 'deferred' END
          AND chain.state <> 'ended'
    )
    GROUP BY service_id, kind
    ORDER BY min(next_attempt_at)
    LIMIT :at_most
    """
)

RETRY_LETTERS = text(
    """
    UPDATE retention.deferred_letters SET next_attempt_at = :now
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

LETTERS = text(
    """
    SELECT notification_id, service_id, kind, reason, attempts, first_failed_at, next_attempt_at, needs_person
    FROM retention.deferred_letters
    ORDER BY first_failed_at, notification_id
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
COUNT_LETTERS = text("SELECT count(*), count(*) FILTER (WHERE needs_person) FROM retention.deferred_letters")


@dataclass(frozen=True)
class Whose:
    """Whose letters: the service, and whether real or test ones; `cutoff` (aware) is what they are past."""

    service_id: UUID
    kind: str
    cutoff: datetime


@dataclass(frozen=True)
class DeferredLetterRow:
    """A letter that is held back."""

    notification_id: UUID
    service_id: UUID
    kind: str
    reason: str
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


def defer_letters(
    connection: Connection,
    whose: Whose,
    reasons: Mapping[UUID, str],
    *,
    now: datetime,
    first_seconds: float,
    attempts_before_person: int,
) -> None:
    """Record letters that stay, each with its reason."""
    values = {
        **whose.__dict__,
        "now": now,
        "first": first_seconds,
        "attempts_before_person": attempts_before_person,
        "ids": list(reasons),
        "reasons": list(reasons.values()),
    }
    connection.execute(DEFER_LETTERS, values)


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


def mend_buckets(connection: Connection, service_id: UUID, kind: str, buckets: Collection[str], now: datetime) -> None:
    """Buckets have answered: those passed over are due at once."""
    if buckets:
        values = {"service_id": service_id, "kind": kind, "buckets": list(buckets), "now": now}
        connection.execute(MEND_BUCKETS, values)


def forget_letters(connection: Connection, ids: Sequence[UUID]) -> None:
    """Forget letters that have moved."""
    connection.execute(FORGET_LETTERS, {"ids": list(ids)})


def is_known(connection: Connection, letter_id: UUID) -> bool:
    """Whether the letter was held back before, be it due again."""
    return bool(connection.execute(IS_KNOWN, {"id": letter_id}).scalar())


def forget_vanished(connection: Connection, service_id: UUID, kind: str) -> None:
    """Forget letters whose rows are gone by another way than ours."""
    connection.execute(platform_dao.known(connection).clause(FORGET_VANISHED), {"service_id": service_id, "kind": kind})


def put_off(connection: Connection, service_id: UUID, kind: str, now: datetime) -> None:
    """Records that are due though the chain that meets them has nothing left: they would be due for ever.

    Letters get another hour; buckets that no eligible letter needs are forgotten.
    """
    values = {"service_id": service_id, "kind": kind, "now": now, "later": now + NOT_ELIGIBLE_PAUSE}
    connection.execute(PUT_OFF_LETTERS, values)
    connection.execute(FORGET_BUCKETS_DUE, values)


def due(connection: Connection, now: datetime, at_most: int) -> list[Whose]:
    """Services that have deferred letters, or buckets, whose next attempt is due."""
    return [Whose(*row) for row in connection.execute(DUE, {"now": now, "at_most": at_most})]


def retry_now(
    connection: Connection,
    *,
    now: datetime,
    ids: Sequence[UUID] | None,
    service_id: UUID | None,
    reason: str | None,
) -> int:
    """Make deferred letters, and buckets unless ids are given, due at once. Returns how many records."""
    values = {"now": now, "service_id": service_id, "reason": reason}
    letters = connection.execute(RETRY_LETTERS, {**values, "ids": None if ids is None else list(ids)}).rowcount
    return letters if ids is not None else letters + connection.execute(RETRY_BUCKETS, values).rowcount


def letters(connection: Connection, at_most: int) -> list[DeferredLetterRow]:
    """Deferred letters, the longest held back first."""
    return [DeferredLetterRow(*row) for row in connection.execute(LETTERS, {"at_most": at_most})]


def buckets(connection: Connection) -> list[DeferredBucketRow]:
    """Buckets that are missing or refuse everything."""
    return [DeferredBucketRow(*row) for row in connection.execute(BUCKETS)]


def count_letters(connection: Connection) -> tuple[int, int]:
    """How many letters are deferred, and how many of them need a person."""
    total, needing_person = connection.execute(COUNT_LETTERS).one()
    return total, needing_person
