"""Users who have not visited for long, and accounts that were never completed.

Each sweep reads `users` in the order of an index, a page at a time. Its verdict is one expression, which pages, the
plan and the statements that act (they look again) all use. NULL means that nothing keeps the user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from app.models import GHOST_USER_ID

WARN, MARK, NEVER_COMPLETED = "warn", "mark", "never-completed"

# A user who never visited counts from created_at; the text of ix_users_last_seen.
SEEN = "coalesce(last_visit_at, created_at)"

PROTECTED = """
    WHEN id = :ghost THEN 'ghost'
    WHEN user_in_deletion(flags) IS NULL THEN 'malformed-flags'
    WHEN user_in_deletion(flags) THEN 'in-deletion'
"""
# A subscription is an object or a JSON string that holds one, as flags are; one that can't be read may be active.
PAID_FOR = """
    WHEN lifetime_deal THEN 'lifetime-deal'
    WHEN user_flags(subscription) IS NULL THEN 'malformed-subscription'
    WHEN user_flags(subscription) ->> 'status' = 'active' THEN 'subscription'
    WHEN free_trial_end > :now THEN 'free-trial'
"""
INCOMPLETE = "WHEN state = 'pending' THEN 'never-completed'"
KEPT_FROM_WARNING = f"""CASE {PROTECTED} {INCOMPLETE} {PAID_FOR}
    WHEN {SEEN} > :until THEN 'seen'
    WHEN deletion_warning_sent_at > {SEEN} THEN 'warned-already'
    WHEN deletion_warning_due_at > :now THEN 'tried-lately'
END"""
KEPT_FROM_MARK = f"""CASE {PROTECTED} {INCOMPLETE} {PAID_FOR}
    WHEN {SEEN} > :until THEN 'seen'
    WHEN deletion_warning_sent_at IS NULL OR deletion_warning_sent_at <= {SEEN} THEN 'not-warned'
    WHEN deletion_warning_sent_at > :warned_until THEN 'notice'
END"""
KEPT_INCOMPLETE = f"""CASE {PROTECTED} {PAID_FOR}
    WHEN state <> 'pending' THEN 'completed'
    WHEN created_at > :until THEN 'new'
END"""

# The inner query is bounded whatever the verdicts are: a page of a million protected users would be no step.
BY_SEEN = f"""
    SELECT id, {SEEN} AS at, last_visit_at, created_at, state, flags, lifetime_deal, subscription, free_trial_end,
           deletion_warning_sent_at, deletion_warning_due_at
    FROM users
    WHERE {SEEN} <= :until AND ({SEEN}, id) > (:after_at, :after_id)
    ORDER BY {SEEN}, id
    LIMIT :rows
"""  # noqa: S608 - constants of this module
BY_CREATION = """
    SELECT id, created_at AS at, created_at, state, flags, lifetime_deal, subscription, free_trial_end
    FROM users
    WHERE state = 'pending' AND created_at <= :until AND (created_at, id) > (:after_at, :after_id)
    ORDER BY created_at, id
    LIMIT :rows
"""
PAGE = {
    WARN: text(f"SELECT id, at, {KEPT_FROM_WARNING} AS kept_by FROM ({BY_SEEN}) AS users ORDER BY at, id"),  # noqa: S608
    MARK: text(f"SELECT id, at, {KEPT_FROM_MARK} AS kept_by FROM ({BY_SEEN}) AS users ORDER BY at, id"),  # noqa: S608
    NEVER_COMPLETED: text(
        f"SELECT id, at, {KEPT_INCOMPLETE} AS kept_by FROM ({BY_CREATION}) AS users ORDER BY at, id"  # noqa: S608
    ),
}

LOCK = {
    MARK: text(f"SELECT id FROM users WHERE id = :id AND ({KEPT_FROM_MARK}) IS NULL FOR UPDATE"),  # noqa: S608
    NEVER_COMPLETED: text(f"SELECT id FROM users WHERE id = :id AND ({KEPT_INCOMPLETE}) IS NULL FOR UPDATE"),  # noqa: S608
}

# An attempt of an earlier absence does not count.
CLAIM = text(
    f"""
    UPDATE users
    SET deletion_warning_attempts =
            CASE WHEN deletion_warning_due_at > {SEEN} THEN deletion_warning_attempts + 1 ELSE 1 END,
        deletion_warning_due_at = :due_at
    WHERE id = :id AND ({KEPT_FROM_WARNING}) IS NULL
    RETURNING email_address, name, {SEEN} AS seen_at, deletion_warning_attempts AS attempt
    """  # noqa: S608
)

# Each only if the user has not come back since the claim.
CONFIRM = text(
    f"""
    UPDATE users SET deletion_warning_sent_at = :now, deletion_warning_failure = :failure
    WHERE id = :id AND {SEEN} = :seen_at
    """  # noqa: S608
)
NOTE_FAILURE = text(
    f"UPDATE users SET deletion_warning_failure = :failure WHERE id = :id AND {SEEN} = :seen_at"  # noqa: S608
)
RELEASE = text(
    f"""
    UPDATE users
    SET deletion_warning_attempts = greatest(deletion_warning_attempts - 1, 0), deletion_warning_due_at = :now
    WHERE id = :id AND {SEEN} = :seen_at
    """  # noqa: S608
)


@dataclass(frozen=True)
class Position:
    """Where a page ends: the user's last visit, or creation (aware), and id."""

    at: datetime
    user_id: UUID


BEGINNING = Position(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True)
class Limits:
    """The times (aware) that a sweep compares with. What happened exactly at one of them is long enough ago."""

    now: datetime
    until: datetime
    """Last visits, or creations, up to here."""
    warned_until: datetime | None = None
    """Warnings up to here."""

    def values(self) -> dict[str, object]:
        return {**self.__dict__, "ghost": GHOST_USER_ID}


@dataclass(frozen=True)
class Candidate:
    """A user on a sweep's page, and what keeps the user from it, if anything does."""

    position: Position
    kept_by: str | None

    @property
    def user_id(self) -> UUID:
        return self.position.user_id


@dataclass(frozen=True)
class Claim:
    """A warning that nobody else sends until it is due again."""

    user_id: UUID
    email_address: str
    name: str
    seen_at: datetime
    attempt: int


def page(connection: Connection, sweep: str, limits: Limits, after: Position, rows: int) -> Sequence[Candidate]:
    """The next users, at most `rows` of them, in the sweep's order."""
    values = {**limits.values(), "after_at": after.at, "after_id": after.user_id, "rows": rows}
    return [Candidate(Position(at, id_), kept_by) for id_, at, kept_by in connection.execute(PAGE[sweep], values)]


def lock(connection: Connection, sweep: str, limits: Limits, user_id: UUID) -> bool:
    """Look at the user again and lock the row until the commit; False if something keeps the user by now."""
    return connection.execute(LOCK[sweep], {**limits.values(), "id": user_id}).scalar() is not None


def claim(connection: Connection, limits: Limits, user_id: UUID, due_at: datetime) -> Claim | None:
    """Look at the user again and count an attempt to warn; None if something keeps the user from it by now.

    Unless it is confirmed or released, the next attempt can be claimed at `due_at`.
    """
    row = connection.execute(CLAIM, {**limits.values(), "id": user_id, "due_at": due_at}).one_or_none()
    return None if row is None else Claim(user_id, *row)


def confirm(connection: Connection, claimed: Claim, now: datetime, failure: str | None = None) -> bool:
    """The user is warned, or counts as warned because of `failure`; False if the user has come back meanwhile."""
    values = {"id": claimed.user_id, "seen_at": claimed.seen_at, "now": now, "failure": failure}
    return bool(connection.execute(CONFIRM, values).rowcount)


def note_failure(connection: Connection, claimed: Claim, failure: str) -> None:
    """Keep why the attempt failed. It counts, and the next one is due when the claim said."""
    connection.execute(NOTE_FAILURE, {"id": claimed.user_id, "seen_at": claimed.seen_at, "failure": failure})


def release(connection: Connection, claimed: Claim, now: datetime) -> None:
    """Take the attempt back: it said nothing of the address. The next one can be claimed at once."""
    connection.execute(RELEASE, {"id": claimed.user_id, "seen_at": claimed.seen_at, "now": now})
