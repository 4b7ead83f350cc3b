"""What people did by hand, who is logged in to the ops page, and who tried to log in, there or to an account."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import RETENTION_SCHEMA, Base, Instant


class OpsAction(Base):
    """What somebody did on the ops page or by a command. `detail` is a type, a bucket, or the reason that was given."""

    __tablename__ = "ops_actions"
    __table_args__ = (Index("ix_ops_actions_acted_at", "acted_at"), {"schema": RETENTION_SCHEMA})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    acted_at: Mapped[datetime] = mapped_column(Instant)
    acted_by: Mapped[str]
    action: Mapped[str]
    service_id: Mapped[UUID | None]
    detail: Mapped[str | None]
    count: Mapped[int | None]


class OpsSession(Base):
    """A browser that is logged in to the ops page. Only the token's SHA-256 is kept."""

    __tablename__ = "ops_sessions"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    name: Mapped[str]
    opened_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)


class LoginAttempts(Base):
    """Attempts to log in until `ends_at`, with a name or from a client, of which `key` is a keyed hash."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index("ix_login_attempts_ends_at", "ends_at"), {"schema": RETENTION_SCHEMA})

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    attempts: Mapped[int]
    ends_at: Mapped[datetime] = mapped_column(Instant)
