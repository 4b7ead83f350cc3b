"""Exports of users' data: asked for, built under a lease, sent as a link, removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

LOCK_USER = text(
    "SELECT email_address, user_in_deletion(flags) AS is_in_deletion FROM users WHERE id = :id FOR NO KEY UPDATE"
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
TO_BUILD = "state IN ('requested', 'running')"
TO_TELL = "state IN ('ready', 'failed') AND email_address IS NOT NULL"

# Two statements, each with its index. A message that is lost is sent again when it is due again.
TAKE_DUE = tuple(
    text(
        f"""
        UPDATE user_exports SET due_at = :again_at
        WHERE id IN (
            SELECT id FROM user_exports WHERE {KIND} AND due_at <= :now AND {NOT_LEASED}
            ORDER BY due_at LIMIT :at_most FOR UPDATE SKIP LOCKED
        )
        RETURNING id
        """  # noqa: S608 - constants of this module
    )
    for KIND in (TO_BUILD, TO_TELL)
)
MISS_DEADLINE = text(
    f"""
    UPDATE user_exports
    SET state = 'failed', failure = 'Deadline', expires_at = :now, due_at = :now, attempts = 0
    WHERE id IN (
        SELECT id FROM user_exports WHERE {TO_BUILD} AND deadline_at <= :now AND {NOT_LEASED}
        ORDER BY due_at LIMIT :at_most FOR UPDATE SKIP LOCKED
    )
    RETURNING id
    """  # noqa: S608
)
CLAIM = text(
    f"""
    UPDATE user_exports
    SET state = CASE WHEN state = 'requested' THEN 'running' ELSE state END,
        lease_token = :token, lease_until = :until, due_at = :until, attempts = attempts + 1
    WHERE id = :id AND {NOT_LEASED}
      AND ({TO_BUILD} AND deadline_at > :now OR {TO_TELL} AND (state = 'failed' OR expires_at > :now))
    RETURNING id, user_id, state, attempts, lease_token, object_key, expires_at, email_address
    """  # noqa: S608
)

OWN = "id = :id AND lease_token = :token"
RENEW = text(f"UPDATE user_exports SET lease_until = :until WHERE {OWN} AND {TO_BUILD} AND deadline_at > :now")  # noqa: S608
READY = text(
    f"""
    UPDATE user_exports
    SET state = 'ready', failure = NULL, object_key = :key, ready_at = :now, expires_at = :expires_at, attempts = 1
    WHERE {OWN} AND state = 'running' AND deadline_at > :now
    RETURNING id, user_id, state, attempts, lease_token, object_key, expires_at, email_address
    """  # noqa: S608
)
EMAILED = text(
    f"""
    UPDATE user_exports
    SET emailed_at = :emailed_at, failure = CASE WHEN state = 'failed' THEN failure ELSE :failure END,
        email_address = NULL, attempts = 0, lease_token = NULL, lease_until = NULL
    WHERE {OWN}
    """  # noqa: S608
)
# Why it failed stays what the user's export says, not why the email about it did.
GIVE_BACK = text(
    f"""
    UPDATE user_exports
    SET failure = CASE WHEN state = 'failed' THEN failure ELSE :failure END, due_at = :due_at, lease_token = NULL,
        lease_until = NULL
    WHERE {OWN}
    """  # noqa: S608
)
FAIL = text(
    f"""
    UPDATE user_exports
    SET state = 'failed', failure = :failure, expires_at = :now, due_at = :now, attempts = 0, lease_token = NULL,
        lease_until = NULL
    WHERE {OWN}
    """  # noqa: S608
)

# What failed may have left parts, or an object of which nobody was told.
EXPIRED = text(
    f"""
    SELECT id, attempts FROM user_exports
    WHERE state IN ('ready', 'failed') AND expires_at <= :now AND due_at <= :now AND {NOT_LEASED}
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
TRY_REMOVAL_AGAIN = text("UPDATE user_exports SET attempts = attempts + 1, due_at = :due_at WHERE id = :id")


@dataclass(frozen=True)
class Requester:
    """Who asks for an export. `is_in_deletion` is None where the flags can't be read."""

    email_address: str
    is_in_deletion: bool | None


@dataclass(frozen=True)
class Export:
    """An export as it was when it was claimed. Times are aware."""

    id: UUID
    user_id: UUID
    state: str
    attempts: int
    lease_token: UUID
    object_key: str | None
    expires_at: datetime | None
    email_address: str | None

    @property
    def own(self) -> dict[str, object]:
        return {"id": self.id, "token": self.lease_token}


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


def take_due(connection: Connection, now: datetime, again_at: datetime, at_most: int) -> Sequence[UUID]:
    """Exports to be built, or to be sent, for which a message must go out now; the next at `again_at`."""
    values = {"now": now, "again_at": again_at, "at_most": at_most}
    return [id_ for statement in TAKE_DUE for id_ in connection.execute(statement, values).scalars()]


def miss_deadline(connection: Connection, now: datetime, at_most: int) -> Sequence[UUID]:
    """Give up what was not built by its deadline, at most so many. Returns the ids."""
    return connection.execute(MISS_DEADLINE, {"now": now, "at_most": at_most}).scalars().all()


def claim(connection: Connection, export_id: UUID, now: datetime, until: datetime) -> Export | None:
    """Take the lease of an export that is to be built or sent; None if there is nothing to do, or somebody does it."""
    values = {"id": export_id, "token": uuid4(), "now": now, "until": until}
    row = connection.execute(CLAIM, values).one_or_none()
    return None if row is None else Export(*row)


def renew(connection: Connection, export: Export, now: datetime, until: datetime) -> bool:
    """Keep the lease until then; False if it is lost, or the deadline has passed."""
    return bool(connection.execute(RENEW, {**export.own, "now": now, "until": until}).rowcount)


def ready(connection: Connection, export: Export, key: str, now: datetime, expires_at: datetime) -> Export | None:
    """The object is there; None if the lease is lost, or the deadline has passed."""
    row = connection.execute(READY, {**export.own, "key": key, "now": now, "expires_at": expires_at}).one_or_none()
    return None if row is None else Export(*row)


def close_email(connection: Connection, export: Export, emailed_at: datetime | None, failure: str | None) -> None:
    """The link, or the word that there is none, was sent or is given up for `failure`: the address is forgotten."""
    connection.execute(EMAILED, {**export.own, "emailed_at": emailed_at, "failure": failure})


def give_back(connection: Connection, export: Export, failure: str, due_at: datetime) -> None:
    """Let the lease go after a failure; the next attempt is due then."""
    connection.execute(GIVE_BACK, {**export.own, "failure": failure, "due_at": due_at})


def fail(connection: Connection, export: Export, failure: str, now: datetime) -> None:
    """Give the export up. Nobody waits for it any longer; its user is still to be told."""
    connection.execute(FAIL, {**export.own, "failure": failure, "now": now})


def expired(connection: Connection, now: datetime, at_most: int) -> list[tuple[UUID, int]]:
    """Exports whose time is up and whose objects are not known to be gone, and how often that was tried."""
    return [(row[0], row[1]) for row in connection.execute(EXPIRED, {"now": now, "at_most": at_most})]


def removed(connection: Connection, export_id: UUID) -> None:
    """Nothing of the export is left in object storage."""
    connection.execute(REMOVED, {"id": export_id})


def try_removal_again(connection: Connection, export_id: UUID, due_at: datetime) -> None:
    """The objects could not be removed; the next attempt is due then."""
    connection.execute(TRY_REMOVAL_AGAIN, {"id": export_id, "due_at": due_at})
