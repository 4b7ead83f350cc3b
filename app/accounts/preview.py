"""What the deletion of an account would do, without doing any of it."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from app.accounts.errors import GhostUser, OnlyManager, UnknownUser
from app.accounts.managers import require_other_managers
from app.accounts.plan import PLAN, Child
from app.dao import user_children_dao, user_deletions_dao
from app.db import db
from app.models import GHOST_USER_ID

COUNT_NO_FURTHER = 10_000


@dataclass(frozen=True)
class Preview:
    """Rows per column of the plan, each counted no further than 10,000, and what forbids the deletion, if anything."""

    user_id: UUID
    rows: tuple[tuple[Child, int], ...]
    forbidden: str | None


def preview(user_id: UUID) -> Preview:
    """What deleting the account would do. Raises UnknownUser and GhostUser."""
    if user_id == GHOST_USER_ID:
        raise GhostUser
    with db.transaction() as connection:
        if not user_deletions_dao.exists(connection, user_id):
            raise UnknownUser(user_id)
        rows = tuple((child, _count(connection, child, user_id)) for child in PLAN)
        try:
            require_other_managers(connection, user_id)
        except OnlyManager as error:
            return Preview(user_id, rows, str(error))
    return Preview(user_id, rows, None)


def _count(connection: Connection, child: Child, user_id: UUID) -> int:
    return user_children_dao.count(
        connection, child.table, child.column, user_id, COUNT_NO_FURTHER, json_key=child.json_key
    )
