"""Users for tests: one call makes one, with what a test does not care about filled in."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, select, text, update

from app.models import User

MADE_AT = datetime.fromisoformat("2020-01-01T00:00:00+00:00")


def create_user(connection: Connection, **columns: Any) -> UUID:
    """An active user with an address of the id's own, made long ago."""
    user_id = columns.pop("id", None) or uuid4()
    values = {"name": "Ada Private", "email_address": address(user_id), "state": "active", "created_at": MADE_AT}
    connection.execute(insert(User).values(id=user_id, **{**values, **columns}))
    return user_id


def address(user_id: UUID) -> str:
    """Where `create_user` lets its user be reached."""
    return f"{user_id}@private.example.test"


def user(connection: Connection, user_id: UUID) -> Any:
    """The user's row."""
    return connection.execute(select(User.__table__).where(User.id == user_id)).one()


def change(connection: Connection, user_id: UUID, **columns: Any) -> None:
    """Write to the user's row."""
    connection.execute(update(User).where(User.id == user_id).values(**columns))


def marked(connection: Connection) -> dict[UUID, str]:
    """The users whose deletion was asked for, and by whom."""
    found = connection.execute(text("SELECT user_id, requested_by FROM user_deletions"))
    return {row.user_id: row.requested_by for row in found}
