"""Users for tests: one call makes one, with what a test does not care about filled in."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, select, text, update

from app.models import GHOST_USER_ID, User

INSTANTS = ("created_at", "last_visit_at", "free_trial_end", "deletion_warning_sent_at", "deletion_warning_due_at")
MADE_AT = datetime.fromisoformat("2020-01-01T00:00:00+00:00")


def create_user(connection: Connection, **columns: Any) -> UUID:
    """An active user with an address of the id's own, made long ago; a warning that was sent went to it."""
    user_id = columns.pop("id", None) or uuid4()
    values = {"name": "Ada Private", "email_address": address(user_id), "state": "active", "created_at": MADE_AT}
    if columns.get("deletion_warning_sent_at"):
        values["deletion_warning_address"] = columns.get("email_address", values["email_address"])
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


def days_pass(connection: Connection, days: int) -> None:
    """All that happened to users, and all that sweeps over them did, happened so many days earlier."""
    set_back = ", ".join(f"{column} = {column} - :days * interval '1 day'" for column in INSTANTS)
    values = {"days": days, "ghost": GHOST_USER_ID}
    connection.execute(text(f"UPDATE users SET {set_back} WHERE id <> :ghost"), values)
    for nights in (100_000 + days, -100_000):  # two nights must not meet on the way
        connection.execute(text("UPDATE retention.user_sweeps SET night = night - :nights"), {"nights": nights})
