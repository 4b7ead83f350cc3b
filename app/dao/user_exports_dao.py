"""Exports of users' data: asked for, built under a lease, sent as a link, removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from app.dao.leases import Lease, LeasedTable

TO_BUILD = "state IN ('requested', 'running')"
TO_TELL = "state IN ('ready', 'failed') AND email_address IS NOT NULL"
EXPORTS = LeasedTable(
    "user_exports",
    "id",
    open=(f"{TO_BUILD} AND deadline_at > :now", f"{TO_TELL} AND (state = 'failed' OR expires_at > :now)"),
    returns=(
        *("user_id", "state", "deadline_at", "object_key", "expires_at", "email_address", "files_left_out", "files"),
    ),
    on_lease="state = CASE WHEN state = 'requested' THEN 'running' ELSE state END",
)

LOCK_USER = text(
    "SELECT email_address, user_in_deletion(flags) AS is_in_deletion FROM users WHERE id = :id FOR NO KEY UPDATE"
)
# Under way, or asked for so lately that it is what a second request means.
CURRENT = text(
    """
    SELECT id, state FROM user_exports
    WHERE user_id = :user_id
      AND (state IN ('requested', 'running') AND deadline_at > :now
           OR state = 'ready' AND expires_at > :now AND requested_at > :since)
    ORDER BY requested_at DESC LIMIT 1
    """
)
FETCHABLE = "state = 'ready' AND expires_at > :now AND object_key IS NOT NULL"
OF_LINK = text(f"SELECT object_key, expires_at FROM user_exports WHERE link_hash = :link_hash AND {FETCHABLE}")  # noqa: S608
OF_OWNER = text(
    f"SELECT object_key, expires_at FROM user_exports WHERE id = :id AND user_id = :user_id AND {FETCHABLE}"  # noqa: S608
)
IS_PENDING = text(
    """
    SELECT EXISTS (SELECT FROM user_exports
                   WHERE user_id = :user_id AND state IN ('requested', 'running') AND deadline_at > :now)
    """
)
INSERT = text(
    """
    INSERT INTO user_exports (id, user_id, requested_at, deadline_at, due_at, email_address)
    VALUES (:id, :user_id, :now, :deadline_at, :now, :email_address)
    """
)

NOT_LEASED = "(lease_until IS NULL OR lease_until <= :now)"
LATE = text(
    f"""
    SELECT id FROM user_exports WHERE {TO_BUILD} AND deadline_at <= :now AND {NOT_LEASED}
    ORDER BY due_at LIMIT :at_most FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)
MISS_DEADLINE = text(
    """
    UPDATE user_exports
    SET state = 'failed', failure = 'Deadline', expires_at = :now, due_at = :now, sent_at = NULL, attempts = 0,
        lease_token = NULL
    WHERE id = ANY (:ids)
    """
)
# What failed may have left parts, or an object of which nobody was told.
EXPIRED = text(
    f"""
    SELECT id, user_id, attempts FROM user_exports
    WHERE state IN ('ready', 'failed') AND expires_at <= :now AND due_at <= :now AND {NOT_LEASED}
      AND NOT EXISTS (SELECT FROM retention.holds WHERE scope IN ('pipeline', 'user:' || user_id::text))
    ORDER BY expires_at
    LIMIT :at_most
    """  # noqa: S608
)
REMOVED = text(
    """
    UPDATE user_exports
    SET state = CASE WHEN state = 'ready' THEN 'expired' ELSE state END,
        expires_at = CASE WHEN state = 'ready' THEN expires_at END, object_key = NULL,
        email_address = CASE WHEN state = 'failed' THEN email_address END
    WHERE id = :id AND state IN ('ready', 'failed')
    """
)
# Of a failed one, `expires_at` says that its object may still be there, and the address that its user is to be told.
PAST = text(
    """
    SELECT id FROM user_exports
    WHERE state IN ('failed', 'expired') AND requested_at < :before AND email_address IS NULL
      AND (state = 'expired' OR expires_at IS NULL)
      AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = 'user:' || user_id::text)
    ORDER BY requested_at
    LIMIT :at_most
    FOR UPDATE SKIP LOCKED
    """
)
FORGET = text("DELETE FROM user_exports WHERE id = ANY (:ids)")
TRY_REMOVAL_AGAIN = text("UPDATE user_exports SET attempts = attempts + 1, due_at = :due_at WHERE id = :id")


@dataclass(frozen=True)
class Fetchable:
    """The object of an export that can be fetched, until then."""

    object_key: str
    expires_at: datetime


@dataclass(frozen=True)
class Requester:
    """Who asks for an export. `is_in_deletion` is None where the flags can't be read."""

    email_address: str
    is_in_deletion: bool | None


@dataclass(frozen=True)
class Export:
    """An export as it was when its lease was taken. Times are aware."""

    id: UUID
    user_id: UUID
    state: str
    deadline_at: datetime
    object_key: str | None
    expires_at: datetime | None
    email_address: str | None
    files_left_out: int | None
    files: int | None

    lease: Lease


def lock_user(connection: Connection, user_id: UUID) -> Requester | None:
    """The user, whose row is locked until the commit against marks, deletions and other requests."""
    row = connection.execute(LOCK_USER, {"id": user_id}).one_or_none()
    return None if row is None else Requester(*row)


def is_pending(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Whether an export of the user was asked for that is neither done nor past its deadline."""
    return bool(connection.execute(IS_PENDING, {"user_id": user_id, "now": now}).scalar())


def insert(connection: Connection, user_id: UUID, email_address: str, now: datetime, deadline_at: datetime) -> UUID:
    """Ask for an export. Returns its id."""
    values = {"id": uuid4(), "user_id": user_id, "email_address": email_address, "now": now, "deadline_at": deadline_at}
    connection.execute(INSERT, values)
    return values["id"]  # type: ignore[return-value]


def current(connection: Connection, user_id: UUID, now: datetime, since: datetime) -> tuple[UUID, str] | None:
    """Id and state of the user's export that is under way, or was asked for after `since` and can be fetched."""
    row = connection.execute(CURRENT, {"user_id": user_id, "now": now, "since": since}).one_or_none()
    return None if row is None else (row[0], row[1])


def of_link(connection: Connection, link_hash: bytes, now: datetime) -> Fetchable | None:
    """Key and end of the export that the link leads to, while it can be fetched."""
    row = connection.execute(OF_LINK, {"link_hash": link_hash, "now": now}).one_or_none()
    return None if row is None else Fetchable(*row)


def of_owner(connection: Connection, export_id: UUID, user_id: UUID, now: datetime) -> Fetchable | None:
    """Key and end of the user's own export, while it can be fetched."""
    row = connection.execute(OF_OWNER, {"id": export_id, "user_id": user_id, "now": now}).one_or_none()
    return None if row is None else Fetchable(*row)


def late(connection: Connection, now: datetime, at_most: int) -> list[UUID]:
    """What was not built by its deadline, at most so many. Locks them."""
    return list(connection.execute(LATE, {"now": now, "at_most": at_most}).scalars())


def miss_deadline(connection: Connection, ids: Sequence[UUID], now: datetime) -> None:
    """Give these up."""
    connection.execute(MISS_DEADLINE, {"ids": list(ids), "now": now})


def expired(connection: Connection, now: datetime, at_most: int) -> list[tuple[UUID, UUID, int]]:
    """Exports whose time is up and whose objects are not known to be gone, whose they are, and how often that was
    tried. None of users on hold, and none while the pipeline is paused.
    """
    return [(row[0], row[1], row[2]) for row in connection.execute(EXPIRED, {"now": now, "at_most": at_most})]


def removed(connection: Connection, export_id: UUID) -> None:
    """Nothing of the export is left in object storage."""
    connection.execute(REMOVED, {"id": export_id})


def try_removal_again(connection: Connection, export_id: UUID, due_at: datetime) -> None:
    """The objects could not be removed; the next attempt is due then."""
    connection.execute(TRY_REMOVAL_AGAIN, {"id": export_id, "due_at": due_at})


def past(connection: Connection, before: datetime, at_most: int) -> list[UUID]:
    """Exports that were asked for before then and have ended, the oldest first. Locks them."""
    return list(connection.execute(PAST, {"before": before, "at_most": at_most}).scalars())


def forget(connection: Connection, ids: Sequence[UUID]) -> None:
    """Delete these records."""
    connection.execute(FORGET, {"ids": list(ids)})
