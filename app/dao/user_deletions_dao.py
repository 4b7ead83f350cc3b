"""Deletions of accounts: one row each. The row is the truth, messages only wake it. All times are aware.

The row is made by a trigger when an account is marked, whoever marks it (migration 0004).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao.users_dao import IN_DELETION

RECORD_COLUMNS = """
    user_id, state, reason, requested_by, requested_by_id, requested_at, items, rows_done, files_done, attempts,
    due_at, started_at, completed_at, confirmation_address IS NOT NULL AS is_unconfirmed, confirmation_attempts,
    confirmation_failure, confirmed_at
"""

EXISTS = text("SELECT EXISTS (SELECT FROM users WHERE id = :id)")

# The mark -------------------------------------------------------------------------------------------------------

LOCK_USER = text("SELECT email_address, user_in_deletion(flags) IS TRUE FROM users WHERE id = :id FOR UPDATE")
# What is there stays readable: an object stays an object, a JSON string that holds one stays a string.
MARK = text(
    """
    UPDATE users
    SET flags = CASE WHEN jsonb_typeof(flags) = 'string' AND user_flags(flags) IS NOT NULL
                     THEN to_jsonb(CAST(user_flags(flags) || '{"in_deletion": true}' AS text))
                     ELSE coalesce(user_flags(flags), '{}') || '{"in_deletion": true}'
                END,
        updated_at = :now
    WHERE id = :id
    """
)
SIGN_OUT = text(
    """
    DELETE FROM user_sessions
    WHERE id = ANY (ARRAY(SELECT id FROM user_sessions WHERE user_id = :id ORDER BY created_at DESC LIMIT :at_most))
    """
)
DESCRIBE = text(
    """
    UPDATE user_deletions
    SET requested_by = :by, requested_by_id = :by_id, requested_at = :now, due_at = :now
    WHERE user_id = :id
    """
)
REOPEN = text(
    """
    UPDATE user_deletions
    SET state = 'requested', reason = NULL, requested_by = :by, requested_by_id = :by_id, requested_at = :now,
        due_at = :now, attempts = 0, sent_at = NULL
    WHERE user_id = :id AND state = 'blocked'
    """
)
SET_ITEMS = text("UPDATE user_deletions SET items = :items WHERE user_id = :id")
EXPORT_PENDING = text(
    """
    SELECT EXISTS (SELECT FROM user_exports
                   WHERE user_id = :id AND state IN ('requested', 'running') AND deadline_at > :now)
    """
)

# Who else can manage a service ----------------------------------------------------------------------------------

# Two managers who go at the same time must see each other; always in the same order.
LOCK_MANAGED = text(
    """
    SELECT pg_advisory_xact_lock(hashtextextended('accounts.managers.' || service_id, 0))
    FROM (SELECT DISTINCT service_id FROM permissions
          WHERE user_id = :id AND permission = 'manage_service' ORDER BY service_id) AS managed
    """
)
MANAGED_BY_NOBODY_ELSE = text(
    f"""
    SELECT DISTINCT own.service_id
    FROM permissions AS own JOIN services ON services.id = own.service_id
    WHERE own.user_id = :id AND own.permission = 'manage_service' AND services.active
      AND NOT EXISTS (
          SELECT FROM permissions AS others JOIN users ON users.id = others.user_id
          WHERE others.service_id = own.service_id AND others.permission = 'manage_service'
            AND others.user_id <> :id AND users.state = 'active' AND NOT {IN_DELETION.format(users="users")}
      )
    ORDER BY own.service_id
    """  # noqa: S608
)

# The work -------------------------------------------------------------------------------------------------------

# The message that holds the lease may take it again: a broker that hands a dead worker's message on keeps its id.
# From the second attempt without progress on, the next one must wait: what kills its worker can't spin.
CLAIM = text(
    """
    UPDATE user_deletions
    SET state = 'running', lease_token = :token, lease_until = :until, attempts = attempts + 1,
        started_at = coalesce(started_at, :now),
        due_at = CASE WHEN attempts = 0 THEN due_at
                      ELSE :now + make_interval(secs => least(:longest, :base * power(2, least(attempts, 20) - 1)))
                 END
    WHERE user_id = :id AND state IN ('requested', 'running') AND due_at <= :now
      AND (lease_until IS NULL OR lease_until <= :now OR lease_token = :token)
    RETURNING user_id, lease_token, attempts
    """
)
PROGRESS = text(
    """
    UPDATE user_deletions
    SET rows_done = rows_done + :rows, files_done = files_done + :files, attempts = 0, lease_until = :until
    WHERE user_id = :id AND state = 'running' AND lease_token = :token
    """
)
RELEASE = text(
    """
    UPDATE user_deletions
    SET state = :state, reason = :reason, due_at = :due_at, sent_at = :sent_at, completed_at = :completed_at,
        attempts = CASE WHEN :has_failed THEN attempts ELSE 0 END, lease_until = NULL, lease_token = NULL
    WHERE user_id = :id AND state = 'running' AND lease_token = :token
    """
)
RETAIN_EMAIL = text(
    "INSERT INTO retained_emails (id, email_address, retained_at) VALUES (gen_random_uuid(), :address, :now)"
)
DELETE_USER = text("DELETE FROM users WHERE id = :id")

# Sent again only after a while: a deep queue must not fill with the same wake-up.
DUE = text(
    """
    UPDATE user_deletions AS deletion
    SET sent_at = :now
    FROM (
        SELECT user_id FROM user_deletions
        WHERE (state IN ('requested', 'running') OR (state = 'complete' AND confirmation_address IS NOT NULL))
          AND due_at <= :now AND (lease_until IS NULL OR lease_until <= :now)
          AND (sent_at IS NULL OR sent_at <= :sent_before)
        ORDER BY due_at
        LIMIT :at_most
        FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE deletion.user_id = due.user_id
    RETURNING deletion.user_id
    """
)

# A mark that came while no trigger looked (a restore, replication). Writing the flags again has it captured.
CAPTURE_MISSED = text(
    """
    UPDATE users SET flags = flags
    WHERE id = ANY (ARRAY(
        SELECT id FROM users
        WHERE user_in_deletion(flags) AND NOT EXISTS (SELECT FROM user_deletions WHERE user_id = users.id)
        ORDER BY id
        LIMIT :at_most
        FOR UPDATE SKIP LOCKED
    ))
    """
)
# Those in whose confirmation an address is still kept are not over.
PURGE = text(
    """
    DELETE FROM user_deletions
    WHERE user_id = ANY (ARRAY(
        SELECT user_id FROM user_deletions
        WHERE state = 'complete' AND completed_at < :before AND confirmation_address IS NULL
        ORDER BY completed_at
        LIMIT :at_most
        FOR UPDATE SKIP LOCKED
    ))
    """
)

# The confirmation -----------------------------------------------------------------------------------------------

CLAIM_CONFIRMATION = text(
    """
    UPDATE user_deletions
    SET lease_until = :until, lease_token = :token, confirmation_attempts = confirmation_attempts + 1
    WHERE user_id = :id AND state = 'complete' AND confirmation_address IS NOT NULL AND due_at <= :now
      AND (lease_until IS NULL OR lease_until <= :now)
    RETURNING confirmation_address, confirmation_attempts
    """
)
CLOSE_CONFIRMATION = text(
    """
    UPDATE user_deletions
    SET confirmation_address = CASE WHEN :is_over THEN NULL ELSE confirmation_address END,
        confirmed_at = :confirmed_at, confirmation_failure = :failure, due_at = :due_at, sent_at = NULL,
        lease_until = NULL, lease_token = NULL
    WHERE user_id = :id AND lease_token = :token
    """
)

# Looking --------------------------------------------------------------------------------------------------------

FIND = text(f"SELECT {RECORD_COLUMNS} FROM user_deletions WHERE user_id = :id")  # noqa: S608
BY_STATE = text("SELECT state, count(*) FROM user_deletions GROUP BY state ORDER BY state")
# Each part has its index; the complete ones, of which there are ever more, are not read.
OPEN = text(
    f"""
    SELECT {RECORD_COLUMNS} FROM user_deletions WHERE state IN ('requested', 'running', 'blocked')
    UNION ALL
    SELECT {RECORD_COLUMNS} FROM user_deletions WHERE state = 'complete' AND confirmation_address IS NOT NULL
    ORDER BY requested_at LIMIT :at_most
    """  # noqa: S608
)
MALFORMED = text("SELECT user_id, noticed_at FROM malformed_flags ORDER BY noticed_at LIMIT :at_most")


class LeaseLost(RuntimeError):
    """Another worker has taken the deletion over: whatever this one did in its transaction must be rolled back."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a deletion; `attempts` counts those in a row that got nowhere, this one included."""

    user_id: UUID
    token: UUID
    attempts: int


@dataclass(frozen=True)
class Record:
    """A deletion as it stands; without the address of the confirmation."""

    user_id: UUID
    state: str
    reason: str | None
    requested_by: str
    requested_by_id: UUID | None
    requested_at: datetime
    items: int | None
    rows_done: int
    files_done: int
    attempts: int
    due_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    is_unconfirmed: bool
    confirmation_attempts: int
    confirmation_failure: str | None
    confirmed_at: datetime | None


@dataclass(frozen=True)
class LockedUser:
    """The user's row, locked until the commit: nothing that refers to it can come in meanwhile."""

    email_address: str
    is_in_deletion: bool


def exists(connection: Connection, user_id: UUID) -> bool:
    """Whether there is such a user."""
    return bool(connection.execute(EXISTS, {"id": user_id}).scalar())


def lock_user(connection: Connection, user_id: UUID) -> LockedUser | None:
    """Lock the user's row; None if there is none."""
    row = connection.execute(LOCK_USER, {"id": user_id}).one_or_none()
    return None if row is None else LockedUser(*row)


def mark(connection: Connection, user_id: UUID, *, by: str, by_id: UUID | None, now: datetime) -> None:
    """Set the flag, and write into the row that the trigger makes who asked for it."""
    connection.execute(MARK, {"id": user_id, "now": now})
    connection.execute(DESCRIBE, {"id": user_id, "by": by, "by_id": by_id, "now": now})


def sign_out(connection: Connection, user_id: UUID, at_most: int) -> int:
    """Delete the user's sessions, the newest first. Returns how many."""
    return connection.execute(SIGN_OUT, {"id": user_id, "at_most": at_most}).rowcount


def reopen(connection: Connection, user_id: UUID, *, by: str, by_id: UUID | None, now: datetime) -> bool:
    """Let a blocked deletion go on. Returns whether it was blocked."""
    return bool(connection.execute(REOPEN, {"id": user_id, "by": by, "by_id": by_id, "now": now}).rowcount)


def set_items(connection: Connection, user_id: UUID, items: int) -> None:
    """Write how many items were counted."""
    connection.execute(SET_ITEMS, {"id": user_id, "items": items})


def is_export_pending(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Whether an export that was asked for is neither done nor past its deadline."""
    return bool(connection.execute(EXPORT_PENDING, {"id": user_id, "now": now}).scalar())


def managed_by_nobody_else(connection: Connection, user_id: UUID) -> list[UUID]:
    """The live services that would be left without anybody who can manage them.

    Until the commit no other deletion can come to the same question for these services.
    """
    connection.execute(LOCK_MANAGED, {"id": user_id})
    return list(connection.execute(MANAGED_BY_NOBODY_ELSE, {"id": user_id}).scalars())


def claim(
    connection: Connection,
    user_id: UUID,
    token: UUID,
    *,
    now: datetime,
    until: datetime,
    retry_base_seconds: float,
    retry_longest_seconds: float,
) -> Lease | None:
    """Take the lease, or None: the deletion is done, blocked or not due, or somebody else has it."""
    values = {"id": user_id, "token": token, "now": now, "until": until}
    times = {"base": retry_base_seconds, "longest": retry_longest_seconds}
    row = connection.execute(CLAIM, values | times).one_or_none()
    return None if row is None else Lease(*row)


def progress(connection: Connection, lease: Lease, *, until: datetime, rows: int = 0, files: int = 0) -> None:
    """Count what was done, in the same transaction, and prolong the lease. Raises LeaseLost."""
    values = {"id": lease.user_id, "token": lease.token, "rows": rows, "files": files, "until": until}
    _require(connection.execute(PROGRESS, values).rowcount, lease)


def release(
    connection: Connection,
    lease: Lease,
    state: str,
    *,
    due_at: datetime,
    reason: str | None = None,
    sent_at: datetime | None = None,
    has_failed: bool = False,
) -> None:
    """Give the lease back: done, blocked, or due again at `due_at`. Raises LeaseLost.

    `sent_at` says that the caller sends the next wake-up; otherwise the relay does, once it is due.
    """
    values = {
        "id": lease.user_id,
        "token": lease.token,
        "state": state,
        "reason": reason,
        "due_at": due_at,
        "sent_at": sent_at,
        "completed_at": due_at if state == "complete" else None,
        "has_failed": has_failed,
    }
    _require(connection.execute(RELEASE, values).rowcount, lease)


def _require(rows: int, lease: Lease) -> None:
    if not rows:
        raise LeaseLost(f"the deletion of {lease.user_id} is no longer under this lease")


def retain_email(connection: Connection, address: str, now: datetime) -> None:
    """Keep the address."""
    connection.execute(RETAIN_EMAIL, {"address": address, "now": now})


def delete_user(connection: Connection, user_id: UUID) -> None:
    """Delete the user's row, to which nothing may refer any more."""
    connection.execute(DELETE_USER, {"id": user_id})


def take_due(connection: Connection, *, now: datetime, sent_before: datetime, at_most: int) -> list[UUID]:
    """The users whose deletion, or whose confirmation, is due and was not sent since. Marks them as sent."""
    values = {"now": now, "sent_before": sent_before, "at_most": at_most}
    return list(connection.execute(DUE, values).scalars())


def capture_missed(connection: Connection, at_most: int) -> int:
    """Have the marks of users captured who have no record. Returns how many."""
    return connection.execute(CAPTURE_MISSED, {"at_most": at_most}).rowcount


def purge(connection: Connection, before: datetime, at_most: int) -> int:
    """Delete records of deletions that were complete before then, the oldest first. Returns how many."""
    return connection.execute(PURGE, {"before": before, "at_most": at_most}).rowcount


def claim_confirmation(
    connection: Connection, user_id: UUID, token: UUID, *, now: datetime, until: datetime
) -> tuple[str, int] | None:
    """The address to send the confirmation to and the number of this attempt, or None: there is nothing to send."""
    row = connection.execute(
        CLAIM_CONFIRMATION, {"id": user_id, "token": token, "now": now, "until": until}
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def close_confirmation(
    connection: Connection,
    user_id: UUID,
    token: UUID,
    *,
    is_over: bool,
    due_at: datetime,
    confirmed_at: datetime | None = None,
    failure: str | None = None,
) -> None:
    """Note what became of an attempt. When it is over, sent or given up, the address is forgotten."""
    values = {"is_over": is_over, "due_at": due_at, "confirmed_at": confirmed_at, "failure": failure}
    connection.execute(CLOSE_CONFIRMATION, {"id": user_id, "token": token, **values})


def find(connection: Connection, user_id: UUID) -> Record | None:
    """The deletion of an account, whether or not the user is still there."""
    row = connection.execute(FIND, {"id": user_id}).one_or_none()
    return None if row is None else Record(*row)


def count_by_state(connection: Connection) -> list[tuple[str, int]]:
    """How many deletions there are in each state."""
    return [(row[0], row[1]) for row in connection.execute(BY_STATE)]


def open_records(connection: Connection, at_most: int) -> Sequence[Record]:
    """Deletions that are not over, or not confirmed, the oldest first."""
    return [Record(*row) for row in connection.execute(OPEN, {"at_most": at_most})]


def malformed(connection: Connection, at_most: int) -> list[tuple[UUID, datetime]]:
    """Users whose flags could not be read, so that nothing follows from them."""
    return [(row[0], row[1]) for row in connection.execute(MALFORMED, {"at_most": at_most})]
