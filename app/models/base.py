"""The declarative base, the naming of constraints, and what several subjects declare alike."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.own_schema import USUAL as RETENTION_SCHEMA

__all__ = ["RETENTION_SCHEMA", "Base", "Instant", "Leased", "one_of"]

Instant = DateTime(timezone=True)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """The column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Base(DeclarativeBase):
    """All tables. Constraint names follow PostgreSQL's own defaults, as the GOV.UK Notify family's do."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class Leased:
    """The columns of a row that one worker at a time has (`app.dao.leases`).

    `due_at` is the earliest time of the next attempt. `sent_at` is when a message was last sent, `wakes` how often
    since the row was last at work. `attempts` counts the leases in a row that came to nothing.
    """

    due_at: Mapped[datetime] = mapped_column(Instant)
    sent_at: Mapped[datetime | None] = mapped_column(Instant)
    wakes: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_token: Mapped[UUID | None]
    lease_holder: Mapped[str | None]
    lease_until: Mapped[datetime | None] = mapped_column(Instant)
