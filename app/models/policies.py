"""What is known of policies that are data: their sweeps, what each batch did, and rows that are held back.

No personal data: names of policies, keys of rows, ids of services, counts. Timestamps are `timestamp with time zone`.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import RETENTION_SCHEMA, Base, Instant, Leased, one_of

POLICY_SWEEP_STATES = ("waiting", "blocked", "ended")


class PolicySweep(Leased, Base):
    """One policy, from the night or the hour that it is for until nothing is left to do. This row is the truth.

    Cut-offs are counted from `started_at`. It has come to the row with the age `seen_to` and the key `seen_key`, both
    as PostgreSQL prints them. `intent` has the keys of rows whose files may be gone: their batch did not end. `rows`,
    `files`, `missing` (rows that had no file) and `deferred` are sums over its batches.
    """

    __tablename__ = "policy_sweeps"
    __table_args__ = (
        UniqueConstraint("policy", "period"),
        one_of("state", POLICY_SWEEP_STATES),
        Index("ix_policy_sweeps_open", "policy", unique=True, postgresql_where=text("state <> 'ended'")),
        Index("ix_policy_sweeps_due_at", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_policy_sweeps_finished_at", "finished_at"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    policy: Mapped[str]
    period: Mapped[datetime] = mapped_column(Instant)
    started_at: Mapped[datetime] = mapped_column(Instant)
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    state: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    reason: Mapped[str | None]
    seen_to: Mapped[str | None]
    seen_key: Mapped[str | None]
    intent: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    rows: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    missing: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    deferred: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    finished_at: Mapped[datetime | None] = mapped_column(Instant)


class PolicyStep(Base):
    """What one batch of a policy did; how many rows of which services went: `removed_of` goes with `services`."""

    __tablename__ = "policy_steps"
    __table_args__ = (
        Index("ix_policy_steps_began_at", "began_at"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    sweep_id: Mapped[int] = mapped_column(BigInteger)
    policy: Mapped[str]
    step: Mapped[int]
    began_at: Mapped[datetime] = mapped_column(Instant)
    seconds: Mapped[float]
    rows: Mapped[int]
    files: Mapped[int]
    missing: Mapped[int]
    deferred: Mapped[int]
    services: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    removed_of: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class PolicyDeferred(Base):
    """A row that a policy holds back, by its key: the database refused it, or its file could not be deleted."""

    __tablename__ = "policy_deferred"
    __table_args__ = ({"schema": RETENTION_SCHEMA},)

    policy: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    service_id: Mapped[UUID | None]
    reason: Mapped[str]
    sqlstate: Mapped[str | None]
    refused_by: Mapped[str | None]
    attempts: Mapped[int]
    first_failed_at: Mapped[datetime] = mapped_column(Instant)
    last_failed_at: Mapped[datetime] = mapped_column(Instant)
    next_attempt_at: Mapped[datetime] = mapped_column(Instant)
