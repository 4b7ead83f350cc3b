"""What logging in and visiting read and write of a user."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

# Malformed flags mark nobody: the capturing trigger says the same. A flag that is taken back while the deletion runs
# stops nothing of it. A completed record is of an account that was there before this one.
IN_DELETION = """
    (coalesce(public.user_in_deletion({users}.flags), false)
     OR EXISTS (SELECT FROM user_deletions AS d WHERE d.user_id = {users}.id AND d.state = 'running'))
"""
COLUMNS = (
    f"id, password_hash, platform_admin, state = 'active' AS is_active, {IN_DELETION.format(users='users')} "
    "AS is_in_deletion"
)

BY_ADDRESS = text(f"SELECT {COLUMNS} FROM users WHERE email_address = :email_address")  # noqa: S608
LOCK = text("SELECT FROM users WHERE id = :id FOR NO KEY UPDATE")
BY_ID = text(f"SELECT {COLUMNS} FROM users WHERE id = :id")  # noqa: S608
SET_PASSWORD_HASH = text("UPDATE users SET password_hash = :password_hash WHERE id = :id")

# The hour is looked at first: most visits write nothing, and wait for nobody who has locked the row.
VISIT = text(
    """
    UPDATE users
    SET last_visit_at = greatest(CAST(:now AS timestamptz), last_visit_at), deletion_warning_sent_at = NULL,
        deletion_warning_address = NULL, deletion_warning_attempts = 0, deletion_warning_failure = NULL
    WHERE id = :id AND (
        last_visit_at IS NULL OR last_visit_at <= :not_since
        OR deletion_warning_sent_at IS NOT NULL OR deletion_warning_attempts > 0
    )
    """
)


@dataclass(frozen=True)
class Account:
    """A user who may log in, or not."""

    id: UUID
    password_hash: str | None
    platform_admin: bool
    is_active: bool
    is_in_deletion: bool


def by_address(connection: Connection, email_address: str) -> Account | None:
    """The user with this address, as it is written."""
    row = connection.execute(BY_ADDRESS, {"email_address": email_address}).one_or_none()
    return None if row is None else Account(**row._mapping)


def lock(connection: Connection, user_id: UUID) -> Account | None:
    """The user, who can't be marked or deleted until the transaction ends; None if that has happened.

    Read after the lock, so that the transaction must be READ COMMITTED.
    """
    connection.execute(LOCK, {"id": user_id})
    row = connection.execute(BY_ID, {"id": user_id}).one_or_none()
    return None if row is None else Account(**row._mapping)


def set_password_hash(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Keep another hash of the same password."""
    connection.execute(SET_PASSWORD_HASH, {"id": user_id, "password_hash": password_hash})


def visit(connection: Connection, user_id: UUID, now: datetime, not_since: datetime) -> bool:
    """Record a visit and take a warning back, unless one was recorded after `not_since`; whether it was written."""
    return bool(connection.execute(VISIT, {"id": user_id, "now": now, "not_since": not_since}).rowcount)
