"""Users, their sessions, and the records of what is being done about them.

Timestamps here are `timestamp with time zone`. What is kept about a user after the row in `users` is gone
(`user_deletions`, `user_exports`, `retained_emails`) has no foreign key to it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Instant, Leased, one_of

GHOST_USER_ID = UUID("00000000-0000-4000-8000-00000000dead")
"""The user to whom rows of deleted accounts are reassigned. The database itself refuses to mark or delete it."""

USER_STATES = ("pending", "active", "inactive")
"""`pending`: the account was never completed."""

DELETION_STATES = ("requested", "running", "blocked", "complete")
EXPORT_STATES = ("requested", "running", "ready", "failed", "expired")


class User(Base):
    """A person with an account.

    `flags` is a JSON object, or a JSON string that holds one; `{"in_deletion": true}` marks the account, whoever
    sets it, and a trigger captures that in `user_deletions`. `subscription` is such an object or string, too.
    `deletion_warning_sent_at` is when SES took the warning about inactivity to `deletion_warning_address`.
    """

    __tablename__ = "users"
    __table_args__ = (
        one_of("state", USER_STATES),
        CheckConstraint("deletion_warning_attempts >= 0", name="deletion_warning_attempts"),
        # The daily sweeps read these in order, a page at a time. A user who never visited counts from created_at.
        Index("ix_users_last_seen", text("coalesce(last_visit_at, created_at)"), "id"),
        Index("ix_users_never_completed", "created_at", "id", postgresql_where=text("state = 'pending'")),
        Index("ix_users_in_deletion", "id", postgresql_where=text("user_in_deletion(flags)")),
        # Who else is one is asked for each administrator who might be marked.
        Index("ix_users_platform_admin", "id", postgresql_where=text("platform_admin")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    email_address: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    flags: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"), default=dict)
    state: Mapped[str] = mapped_column(server_default="pending", default="pending")
    platform_admin: Mapped[bool] = mapped_column(server_default="false", default=False)
    last_visit_at: Mapped[datetime | None] = mapped_column(Instant)
    free_trial_end: Mapped[datetime | None] = mapped_column(Instant)
    lifetime_deal: Mapped[bool] = mapped_column(server_default="false", default=False)
    subscription: Mapped[Any | None] = mapped_column(JSONB)
    deletion_warning_sent_at: Mapped[datetime | None] = mapped_column(Instant)
    deletion_warning_address: Mapped[str | None]
    """Where the last attempt to warn went. A warning to an address that the user has no more is none."""
    deletion_warning_attempts: Mapped[int] = mapped_column(server_default="0", default=0)
    deletion_warning_failure: Mapped[str | None]
    """Why the address refused the last attempt."""
    deletion_warning_due_at: Mapped[datetime | None] = mapped_column(Instant)
    """Until then the attempt that is counted last has the warning to itself."""
    invited_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(Instant)
    updated_at: Mapped[datetime | None] = mapped_column(Instant)


class UserSession(Base):
    """A session, logged in or anonymous. Only the token's SHA-256 is kept."""

    __tablename__ = "user_sessions"
    __table_args__ = (
        # A session is dead by one of two rules, each with its index: one with OR reads every living row.
        Index("ix_user_sessions_expires_at", "expires_at", "id"),
        Index("ix_user_sessions_anonymous", "created_at", "id", postgresql_where=text("user_id IS NULL")),
        Index("ix_user_sessions_user_id", "user_id", postgresql_where=text("user_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    data: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"), default=dict)


class DeferredSession(Base):
    """A dead session that the database refuses to delete: `reason` names the constraint or trigger, and no value."""

    __tablename__ = "deferred_sessions"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[str]
    attempts: Mapped[int]
    first_failed_at: Mapped[datetime] = mapped_column(Instant)
    next_attempt_at: Mapped[datetime] = mapped_column(Instant)


class UserDeletion(Leased, Base):
    """One account's deletion: who asked, how far it is. It outlives the user.

    `requested_by` is `user`, `administrator`, `operator`, `zombie-sweep`, `inactivity` or `database` (the flag was
    set by SQL). The lease is the worker's that
    has it, or the request's that means to finish it itself. `items` was counted up to the threshold only.
    `confirmation_address` is where the confirmation goes: taken from the user's row as it goes, NULL once it is sent.
    """

    __tablename__ = "user_deletions"
    __table_args__ = (
        one_of("state", DELETION_STATES),
        Index("ix_user_deletions_due_at", "due_at", postgresql_where=text("state IN ('requested', 'running')")),
        Index(
            "ix_user_deletions_unconfirmed",
            "due_at",
            postgresql_where=text("state = 'complete' AND confirmation_address IS NOT NULL"),
        ),
        Index("ix_user_deletions_state", "state", "requested_at"),
        Index("ix_user_deletions_completed_at", "completed_at", postgresql_where=text("state = 'complete'")),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="requested")
    reason: Mapped[str | None]
    requested_by: Mapped[str] = mapped_column(server_default="database")
    requested_by_id: Mapped[UUID | None] = mapped_column(index=True)
    requested_at: Mapped[datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    items: Mapped[int | None]
    rows_done: Mapped[int] = mapped_column(server_default="0", default=0)
    files_done: Mapped[int] = mapped_column(server_default="0", default=0)
    due_at: Mapped[datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    completed_at: Mapped[datetime | None] = mapped_column(Instant)
    confirmation_address: Mapped[str | None]
    confirmation_attempts: Mapped[int] = mapped_column(server_default="0", default=0)
    confirmation_failure: Mapped[str | None]
    confirmed_at: Mapped[datetime | None] = mapped_column(Instant)


class MalformedFlags(Base):
    """A user whose `flags` could not be read when they were written. The write itself went through."""

    __tablename__ = "malformed_flags"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    noticed_at: Mapped[datetime] = mapped_column(Instant, server_default=text("clock_timestamp()"))


class UserExport(Leased, Base):
    """A copy of a user's data, asked for by the user: a zip in object storage, until `expires_at`.

    Until `deadline_at` a deletion of the same account waits for it.
    """

    __tablename__ = "user_exports"
    __table_args__ = (
        one_of("state", EXPORT_STATES),
        Index("ix_user_exports_user_id", "user_id"),
        Index("ix_user_exports_due_at", "due_at", postgresql_where=text("state IN ('requested', 'running')")),
        Index(
            "ix_user_exports_untold",
            "due_at",
            postgresql_where=text("state IN ('ready', 'failed') AND email_address IS NOT NULL"),
        ),
        Index("ix_user_exports_expires_at", "expires_at", postgresql_where=text("state IN ('ready', 'failed')")),
        Index("ix_user_exports_ended", "requested_at", postgresql_where=text("state IN ('failed', 'expired')")),
        Index("ix_user_exports_link_hash", "link_hash", postgresql_where=text("link_hash IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(server_default="requested")
    failure: Mapped[str | None]
    requested_at: Mapped[datetime] = mapped_column(Instant)
    deadline_at: Mapped[datetime] = mapped_column(Instant)
    object_key: Mapped[str | None]
    ready_at: Mapped[datetime | None] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    email_address: Mapped[str | None]
    """Where the link goes, or the word that there is none, since the account may be gone by then; NULL once sent."""
    emailed_at: Mapped[datetime | None] = mapped_column(Instant)
    files: Mapped[int | None]
    files_left_out: Mapped[int | None]
    """Files of the user's that the copy holds, and those that it does not; which, and why, says its manifest."""
    link_hash: Mapped[bytes | None]
    """Of the token in the link that was sent; whoever has it fetches the export without a log-in."""


class RetainedEmail(Base):
    """The address of a deleted account, kept only where RETAIN_EMAILS says so."""

    __tablename__ = "retained_emails"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email_address: Mapped[str]
    retained_at: Mapped[datetime] = mapped_column(Instant)


class EmailRate(Base):
    """The one row from which every process of the product takes its turn to send an email."""

    __tablename__ = "email_rate"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_slot_at: Mapped[datetime] = mapped_column(Instant)
