"""Deletions of accounts: one row each. The row is the truth, messages only wake it. All times are aware.

The row is made by a trigger when an account is marked, whoever marks it (migration 0004).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.dao import leases, turns_dao
from app.dao.leases import LeasedTable
from app.dao.users_dao import IN_DELETION

DELETIONS = LeasedTable(
    "user_deletions",
    "user_id",
    open=("state IN ('requested', 'running')",),
    on_lease="state = 'running', started_at = coalesce(started_at, :now)",
    blocked="blocked",
    unblocked="requested",
)
# A deletion that is complete has one thing left to do.
CONFIRMATIONS = LeasedTable(
    "user_deletions",
    "user_id",
    open=("state = 'complete' AND confirmation_address IS NOT NULL",),
    returns=("confirmation_address",),
    attempts="confirmation_attempts",
)

RECORD_COLUMNS = """
    user_id, state, reason, requested_by, requested_by_id, requested_at, items, rows_done, files_done, attempts,
    due_at, started_at, completed_at, confirmation_address IS NOT NULL AS is_unconfirmed, confirmation_attempts,
    confirmation_failure, confirmed_at
"""

EXISTS = text("SELECT EXISTS (SELECT FROM users WHERE id = :id)")
ADDRESS = text("SELECT email_address FROM users WHERE id = :id")
# Of a deletion that may have done something, or whose user's row is gone, the flag no longer decides.
LACKS_MARK = text(
    """
    SELECT NOT coalesce(user_in_deletion(users.flags), false)
    FROM users JOIN user_deletions AS deletion ON deletion.user_id = users.id
    WHERE users.id = :id AND deletion.rows_done = 0 AND deletion.files_done = 0 AND deletion.attempts = 1
    """
)

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
SET_ITEMS = text("UPDATE user_deletions SET items = :items WHERE user_id = :id")
EXPORT_PENDING = text(
    """
    SELECT EXISTS (SELECT FROM user_exports
                   WHERE user_id = :id AND state IN ('requested', 'running') AND deadline_at > :now)
    """
)

# Who else can manage a service ----------------------------------------------------------------------------------

# Two managers who go at the same time must see each other: each service that one of them manages has its turn.
MANAGED = text(
    """
    SELECT DISTINCT service_id FROM permissions WHERE user_id = :id AND permission = 'manage_service'
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

RETAIN_EMAIL = text(
    "INSERT INTO retained_emails (id, email_address, retained_at) VALUES (gen_random_uuid(), :address, :now)"
)
DELETE_USER = text("DELETE FROM users WHERE id = :id")
SET_CONFIRMATION_ADDRESS = text("UPDATE user_deletions SET confirmation_address = :address WHERE user_id = :id")

# A mark that came while no trigger looked (a restore, replication). Writing the flags again has it captured.
MISSED = text(
    """
    SELECT id FROM users
    WHERE user_in_deletion(flags) AND NOT EXISTS (SELECT FROM user_deletions WHERE user_id = users.id)
    ORDER BY id
    LIMIT :at_most
    FOR UPDATE SKIP LOCKED
    """
)
CAPTURE = text("UPDATE users SET flags = flags WHERE id = ANY (:ids)")
# Those in whose confirmation an address is still kept are not over.
PAST = text(
    """
    SELECT user_id FROM user_deletions
    WHERE state = 'complete' AND completed_at < :before AND confirmation_address IS NULL
      AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = 'user:' || user_id::text)
    ORDER BY completed_at
    LIMIT :at_most
    FOR UPDATE SKIP LOCKED
    """
)
FORGET = text("DELETE FROM user_deletions WHERE user_id = ANY (:ids)")

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


def address(connection: Connection, user_id: UUID) -> str | None:
    """The user's address; None once the row is gone."""
    return connection.execute(ADDRESS, {"id": user_id}).scalar()


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
    is_reopened = bool(leases.unblock(connection, DELETIONS, "user_id = :id", now, id=user_id))
    if is_reopened:
        connection.execute(DESCRIBE, {"id": user_id, "by": by, "by_id": by_id, "now": now})
    return is_reopened


def set_items(connection: Connection, user_id: UUID, items: int) -> None:
    """Write how many items were counted."""
    connection.execute(SET_ITEMS, {"id": user_id, "items": items})


def is_export_pending(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Whether an export that was asked for is neither done nor past its deadline."""
    return bool(connection.execute(EXPORT_PENDING, {"id": user_id, "now": now}).scalar())


def take_turns_of_managers(connection: Connection, user_id: UUID) -> None:
    """Until the commit no other deletion can ask who else manages the services that the user manages."""
    managed = connection.execute(MANAGED, {"id": user_id}).scalars().all()
    turns_dao.take_or_make(connection, [f"managers of {service_id}" for service_id in managed])


def managed_by_nobody_else(connection: Connection, user_id: UUID) -> list[UUID]:
    """The live services that would be left without anybody who can manage them."""
    return list(connection.execute(MANAGED_BY_NOBODY_ELSE, {"id": user_id}).scalars())


def lacks_mark(connection: Connection, user_id: UUID) -> bool:
    """Whether a deletion that is about to begin has no mark on the user's row: somebody forged the request."""
    return bool(connection.execute(LACKS_MARK, {"id": user_id}).scalar())


def set_confirmation_address(connection: Connection, user_id: UUID, address: str) -> None:
    """Remember where the confirmation goes, once the user's row no longer says so."""
    connection.execute(SET_CONFIRMATION_ADDRESS, {"id": user_id, "address": address})


def retain_email(connection: Connection, address: str, now: datetime) -> None:
    """Keep the address."""
    connection.execute(RETAIN_EMAIL, {"address": address, "now": now})


def delete_user(connection: Connection, user_id: UUID) -> None:
    """Delete the user's row, to which nothing may refer any more."""
    connection.execute(DELETE_USER, {"id": user_id})


def missed(connection: Connection, at_most: int) -> list[UUID]:
    """Users with a mark and without a record. Locks their rows."""
    return list(connection.execute(MISSED, {"at_most": at_most}).scalars())


def capture(connection: Connection, user_ids: Sequence[UUID]) -> None:
    """Have the marks of these users captured."""
    connection.execute(CAPTURE, {"ids": list(user_ids)})


def past(connection: Connection, before: datetime, at_most: int) -> list[UUID]:
    """Users whose deletion was complete before then, the oldest first. Locks their records."""
    return list(connection.execute(PAST, {"before": before, "at_most": at_most}).scalars())


def forget(connection: Connection, user_ids: Sequence[UUID]) -> None:
    """Delete these records."""
    connection.execute(FORGET, {"ids": list(user_ids)})


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
