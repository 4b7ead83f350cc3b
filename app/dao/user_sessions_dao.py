"""Sessions. One is dead when `expires_at` is past, or when it has no user and is older than it may be.

Two rules, each with its index and its query. The dead are taken oldest first; what another worker has locked is
passed over.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.dao.users_dao import IN_DELETION

# By position on the page, not by id: the rows are locked, so that they stay where they are, and a batch saves the
# look-up of each in the primary key. A row whose version changed while it was being locked is left for the next batch.
NOT_DEFERRED = "id <> ALL (ARRAY(SELECT session_id FROM deferred_sessions WHERE next_attempt_at > :now))"
EXPIRED = text(
    f"""
    WITH dead AS (
        DELETE FROM user_sessions
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM user_sessions
            WHERE expires_at < :now AND expires_at >= CAST(:at_least AS timestamptz) AND {NOT_DEFERRED}
              AND (user_id IS NULL OR user_id <> ALL (CAST(:on_hold AS uuid[])))
            ORDER BY expires_at, id
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING expires_at
    )
    SELECT count(*), max(expires_at) FROM dead
    """  # noqa: S608 - constants of this module
)
ANONYMOUS = text(
    f"""
    WITH dead AS (
        DELETE FROM user_sessions
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM user_sessions
            WHERE user_id IS NULL AND created_at < :anonymous_before AND created_at >= CAST(:at_least AS timestamptz)
              AND {NOT_DEFERRED}
            ORDER BY created_at, id
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING created_at
    )
    SELECT count(*), max(created_at) FROM dead
    """  # noqa: S608
)
# Where the database refused such a batch: the rows one by one, so that those that it refuses can be found.
DEAD_BY_EXPIRY = text(
    f"""
    SELECT id FROM user_sessions
    WHERE expires_at < :now AND {NOT_DEFERRED} AND (user_id IS NULL OR user_id <> ALL (CAST(:on_hold AS uuid[])))
    ORDER BY expires_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)
DEAD_BY_AGE = text(
    f"""
    SELECT id FROM user_sessions WHERE user_id IS NULL AND created_at < :anonymous_before AND {NOT_DEFERRED}
    ORDER BY created_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)
DELETE_THESE = text("DELETE FROM user_sessions WHERE id = ANY (:ids)")
DEFER = text(
    """
    INSERT INTO deferred_sessions AS d (session_id, reason, attempts, first_failed_at, next_attempt_at)
    SELECT failed.id, failed.reason, 1, :now, :now + make_interval(secs => :base)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS failed (id, reason)
    ON CONFLICT (session_id) DO UPDATE
    SET reason = excluded.reason, attempts = d.attempts + 1,
        next_attempt_at = :now + make_interval(secs => least(:longest, :base * power(2, least(d.attempts, 20))))
    """
)
FORGET = text(
    "DELETE FROM deferred_sessions WHERE NOT EXISTS (SELECT FROM user_sessions WHERE id = deferred_sessions.session_id)"
)
DEFERRED = text(
    """
    SELECT reason, count(*) AS sessions, max(attempts) AS attempts, min(first_failed_at) AS since
    FROM deferred_sessions GROUP BY reason ORDER BY sessions DESC, reason LIMIT 20
    """
)
# Statistics that are missing or old (after a restore, say) must not make a batch read and sort the whole table.
READ_IN_ORDER = text(
    """
    SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),
           set_config('enable_bitmapscan', 'off', true)
    """
)

ALIVE = "expires_at >= :now AND NOT (user_id IS NULL AND created_at < :anonymous_before)"

COUNT = text(
    f"""
    SELECT count(*) AS total,
           count(*) FILTER (WHERE {ALIVE} AND user_id IS NOT NULL) AS of_users,
           count(*) FILTER (WHERE {ALIVE} AND user_id IS NULL) AS anonymous,
           count(*) FILTER (WHERE expires_at < :now) AS expired,
           count(*) FILTER (WHERE expires_at >= :now AND user_id IS NULL AND created_at < :anonymous_before)
               AS too_old,
           min(created_at) FILTER (WHERE NOT ({ALIVE})) AS oldest_dead,
           pg_total_relation_size('user_sessions') AS bytes
    FROM user_sessions
    """  # noqa: S608 - constants of this module
)
# The same, but no further than one above a cap: what is asked often must not read a table of millions.
DEAD_TO_CAP = text(
    """
    SELECT (SELECT count(*) FROM (SELECT FROM user_sessions WHERE expires_at < :now LIMIT :cap + 1) AS capped),
           (SELECT count(*) FROM (
               SELECT FROM user_sessions
               WHERE user_id IS NULL AND created_at < :anonymous_before AND expires_at >= :now LIMIT :cap + 1
           ) AS capped)
    """
)
ALIVE_TO_CAP = text(
    f"SELECT count(*) FROM (SELECT FROM user_sessions WHERE {ALIVE} LIMIT :cap + 1) AS capped"  # noqa: S608
)

MAY_EMPTY = text(
    """
    SELECT has_table_privilege('user_sessions', 'TRUNCATE')
               AND has_database_privilege(current_database(), 'TEMPORARY') AS allowed,
           pg_get_userbyid(relowner) AS owner,
           EXISTS (SELECT FROM pg_constraint WHERE confrelid = pg_class.oid) AS is_referred_to
    FROM pg_class WHERE oid = 'user_sessions'::regclass
    """
)
# What the foreign key's own check asks for each row that is put back. Taken before the table's lock, and never waited
# for: a deletion of an account has the user's row first, and then wants the table.
LOCK_USERS = text(
    f"""
    SELECT count(*) FROM (
        SELECT FROM users
        WHERE id = ANY (ARRAY(SELECT DISTINCT user_id FROM user_sessions WHERE user_id IS NOT NULL AND {ALIVE}))
        ORDER BY id
        FOR KEY SHARE NOWAIT
    ) AS locked
    """  # noqa: S608
)
LOCK = text("LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE")
# Of another's connection, the time of its transaction is seen by a member of pg_read_all_stats alone.
HOLDERS_OF_TABLE = text(
    """
    SELECT l.virtualtransaction AS transaction, l.pid, a.application_name, a.xact_start AS since
    FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = 'user_sessions'::regclass AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY since NULLS LAST, l.pid
    """
)
HOLDERS_OF_USERS = text(
    f"""
    SELECT DISTINCT l.virtualtransaction AS transaction, l.pid, a.application_name, a.xact_start AS since
    FROM users
    JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = users.xmax
    LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE users.id = ANY (ARRAY(SELECT DISTINCT user_id FROM user_sessions WHERE user_id IS NOT NULL AND {ALIVE}))
      AND l.pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY since NULLS LAST, l.pid
    """  # noqa: S608
)
KEEP_ALIVE = text(
    f"CREATE TEMPORARY TABLE living_sessions ON COMMIT DROP AS SELECT * FROM user_sessions WHERE {ALIVE}"  # noqa: S608
)
EMPTY = text("TRUNCATE user_sessions")
BRING_BACK = text("INSERT INTO user_sessions SELECT * FROM living_sessions")
ANALYZE = text("ANALYZE user_sessions")

FIND = text(
    f"""
    SELECT s.id, s.user_id, coalesce(u.platform_admin, false) AS is_administrator,
           coalesce(u.state = 'inactive', false) AS is_inactive, {IN_DELETION.format(users="u")} AS is_in_deletion
    FROM (SELECT id, user_id FROM user_sessions WHERE token_hash = :token_hash AND {ALIVE}) AS s
    LEFT JOIN users AS u ON u.id = s.user_id
    """  # noqa: S608
)
OPEN = text(
    """
    INSERT INTO user_sessions (id, token_hash, user_id, created_at, expires_at)
    VALUES (:id, :token_hash, :user_id, :now, :expires_at)
    """
)
CLOSE_OLDEST = text(
    """
    DELETE FROM user_sessions
    WHERE id = ANY (ARRAY(
        SELECT id FROM user_sessions WHERE user_id = :user_id ORDER BY created_at DESC, id OFFSET :most LIMIT :at_most
    ))
    """
)
MOST_CLOSED_AT_ONCE = 1000
CLOSE = text("DELETE FROM user_sessions WHERE id = :id")


@dataclass(frozen=True)
class Removed:
    """How many dead sessions a query removed, and the time of the newest of them."""

    rows: int
    up_to: datetime | None


@dataclass(frozen=True)
class Count:
    """The sessions that there are. `too_old` are those without a user that have not expired by themselves."""

    total: int
    of_users: int
    anonymous: int
    expired: int
    too_old: int
    oldest_dead: datetime | None
    bytes: int

    @property
    def dead(self) -> int:
        return self.expired + self.too_old

    @property
    def share_of_dead(self) -> float:
        return self.dead / self.total if self.total else 0.0


@dataclass(frozen=True)
class MayEmpty:
    """Whether this role may rebuild the table, who owns it, and whether another table's rows refer to it."""

    allowed: bool
    owner: str
    is_referred_to: bool


@dataclass(frozen=True)
class Deferred:
    """Sessions that the database refuses to delete for the same reason, and how often one of them was tried."""

    reason: str
    sessions: int
    attempts: int
    since: datetime


@dataclass(frozen=True)
class Holder:
    """A transaction that holds what a rebuild needs. `pid` is None for a prepared one."""

    transaction: str
    pid: int | None
    application_name: str | None
    since: datetime | None
    """When it began; None where this role may not see it."""


def read_in_order(connection: Connection) -> None:
    """From here to the end of the transaction, batches are read from their index, in order."""
    connection.execute(READ_IN_ORDER)


def delete_expired(
    connection: Connection, now: datetime, at_least: datetime | None, limit: int, on_hold: Collection[UUID] = ()
) -> Removed:
    """Delete sessions whose `expires_at` is past, none of them before `at_least`, and none of users on hold."""
    return _removed(connection, EXPIRED, {"now": now, "on_hold": list(on_hold)}, at_least, limit)


def delete_anonymous(
    connection: Connection, now: datetime, before: datetime, at_least: datetime | None, limit: int
) -> Removed:
    """Delete sessions without a user that were made before `before`, none of them before `at_least`."""
    return _removed(connection, ANONYMOUS, {"now": now, "anonymous_before": before}, at_least, limit)


def lock_dead(
    connection: Connection, now: datetime, anonymous_before: datetime, limit: int, on_hold: Collection[UUID]
) -> tuple[list[UUID], int]:
    """Lock a batch of dead sessions, none of users on hold: their ids, those that have expired first, and how many of
    those there are.
    """
    values = {"now": now, "anonymous_before": anonymous_before, "on_hold": list(on_hold)}
    expired = connection.execute(DEAD_BY_EXPIRY, {**values, "limit": limit}).scalars().all()
    by_age = connection.execute(DEAD_BY_AGE, {**values, "limit": limit - len(expired)}).scalars()
    return list(dict.fromkeys((*expired, *by_age))), len(expired)


def delete_these(connection: Connection, ids: Sequence[UUID]) -> int:
    """Delete these sessions. Returns how many."""
    return connection.execute(DELETE_THESE, {"ids": list(ids)}).rowcount


def defer(
    connection: Connection, refused: Mapping[UUID, str], now: datetime, *, base_seconds: float, longest_seconds: float
) -> None:
    """Remember that these are refused, and why. The next attempt waits, twice as long each time."""
    values = {"now": now, "base": base_seconds, "longest": longest_seconds}
    connection.execute(DEFER, {**values, "ids": list(refused), "reasons": list(refused.values())})


def forget_deferred(connection: Connection) -> int:
    """Forget the sessions that are no longer there. Returns how many."""
    return connection.execute(FORGET).rowcount


def deferred(connection: Connection) -> list[Deferred]:
    """Sessions that are refused, by reason, the most first."""
    return [Deferred(**row._mapping) for row in connection.execute(DEFERRED)]


def _removed(
    connection: Connection, statement: Any, values: dict[str, Any], at_least: datetime | None, limit: int
) -> Removed:
    bounds = {"at_least": "-infinity" if at_least is None else at_least, "limit": limit}
    rows, up_to = connection.execute(statement, values | bounds).one()
    return Removed(rows, up_to)


def count(connection: Connection, now: datetime, anonymous_before: datetime) -> Count:
    """Count all sessions. Reads the whole table."""
    row = connection.execute(COUNT, {"now": now, "anonymous_before": anonymous_before}).one()
    return Count(**row._mapping)


def dead_to_cap(connection: Connection, now: datetime, anonymous_before: datetime, cap: int) -> tuple[int, int]:
    """Sessions that have expired, and others without a user that are too old; each no further than the cap and one."""
    values = {"now": now, "anonymous_before": anonymous_before, "cap": cap}
    expired, too_old = connection.execute(DEAD_TO_CAP, values).one()
    return expired, too_old


def alive_to_cap(connection: Connection, now: datetime, anonymous_before: datetime, cap: int) -> int:
    """Sessions that live, no further than one above the cap."""
    values = {"now": now, "anonymous_before": anonymous_before, "cap": cap}
    return int(connection.execute(ALIVE_TO_CAP, values).scalar_one())


def may_empty(connection: Connection) -> MayEmpty:
    """What a rebuild needs to be asked before it."""
    return MayEmpty(**connection.execute(MAY_EMPTY).one()._mapping)


def lock_users(connection: Connection, now: datetime, anonymous_before: datetime) -> None:
    """Keep the users of living sessions from being deleted until the transaction ends; nothing else waits for that.

    Raises the database's error at once where one of them is held.
    """
    connection.execute(LOCK_USERS, {"now": now, "anonymous_before": anonymous_before})


def holders(connection: Connection, now: datetime, anonymous_before: datetime, *, of_users: bool) -> list[Holder]:
    """Transactions of others that hold the table, or else the row of a user with a living session; the oldest first."""
    values = {"now": now, "anonymous_before": anonymous_before}
    found = connection.execute(HOLDERS_OF_USERS, values) if of_users else connection.execute(HOLDERS_OF_TABLE)
    return [Holder(**row._mapping) for row in found]


def lock(connection: Connection) -> None:
    """Keep everybody out until the transaction ends."""
    connection.execute(LOCK)


def keep_only_living(connection: Connection, now: datetime, anonymous_before: datetime) -> int:
    """Empty the locked table and bring the living back; how many they were. The file and its indexes are new.

    The transaction must be READ COMMITTED, so that what is read was committed before the lock was there.
    """
    living = connection.execute(KEEP_ALIVE, {"now": now, "anonymous_before": anonymous_before}).rowcount
    connection.execute(EMPTY)
    brought_back = connection.execute(BRING_BACK).rowcount
    if brought_back != living:
        raise RowsMissing(f"{living} living sessions, but {brought_back} brought back")
    return living


class RowsMissing(RuntimeError):
    """Not as many sessions came back as were kept. The transaction must be rolled back."""


def analyze(connection: Connection) -> None:
    """Tell the planner what is left."""
    connection.execute(ANALYZE)


def find(
    connection: Connection, token_hash: bytes, now: datetime, anonymous_before: datetime
) -> Row[tuple[UUID, UUID | None, bool, bool, bool]] | None:
    """The living session with this token: id, user_id, is_administrator, is_inactive, is_in_deletion."""
    values = {"token_hash": token_hash, "now": now, "anonymous_before": anonymous_before}
    return connection.execute(FIND, values).one_or_none()


def insert(
    connection: Connection, session_id: UUID, token_hash: bytes, user_id: UUID, now: datetime, until: datetime
) -> None:
    """Add a session."""
    values = {"id": session_id, "token_hash": token_hash, "user_id": user_id, "now": now, "expires_at": until}
    connection.execute(OPEN, values)


def delete(connection: Connection, session_id: UUID) -> None:
    """Delete one session, if it is there."""
    connection.execute(CLOSE, {"id": session_id})


def delete_oldest(connection: Connection, user_id: UUID, most: int) -> None:
    """Leave the user the `most` newest sessions; should there be very many, the rest goes with the next log-ins."""
    connection.execute(CLOSE_OLDEST, {"user_id": user_id, "most": most, "at_most": MOST_CLOSED_AT_ONCE})
