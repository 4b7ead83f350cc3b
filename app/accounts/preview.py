"""What the deletion of an account would do, without doing any of it."""

from dataclasses import dataclass
from uuid import UUID

from app.accounts.conditions import look_for_other_managers, require_planned
from app.accounts.errors import GhostUser, OnlyManager, UnknownUser, UnplannedReference
from app.dao import user_children_dao, user_deletions_dao
from app.dao.deletion_plan import PLAN, Child
from app.dao.user_children_dao import User
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
        user = User(user_id, user_deletions_dao.address(connection, user_id))
        rows = tuple((child, user_children_dao.count(connection, child, user, COUNT_NO_FURTHER)) for child in PLAN)
        try:
            require_planned(connection)
            look_for_other_managers(connection, user_id)
        except (OnlyManager, UnplannedReference) as error:
            return Preview(user_id, rows, str(error))
    return Preview(user_id, rows, None)
