"""What must be so before an account may be deleted: the plan names every foreign key to `users`, and somebody else can
manage each live service.

A key that nobody planned for would let everything else go and then refuse the user's own row, for ever; so the live
catalogue is asked before the first row. Somebody who can manage a service is an active user, not in deletion, with
`manage_service`.
"""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection

from app.accounts.errors import OnlyManager, UnplannedReference
from app.dao import preconditions_dao, user_deletions_dao
from app.dao.deletion_plan import PLAN, Child
from app.dao.preconditions_dao import Reference
from app.state import people


def unplanned(connection: Connection, plan: Iterable[Child] = PLAN) -> list[Reference]:
    """The foreign keys to `users` that the plan does not name."""
    return people.unplanned(preconditions_dao.references_to_users(connection), plan)


def require_planned(connection: Connection, plan: Iterable[Child] = PLAN) -> None:
    """Raise UnplannedReference if there is such a foreign key."""
    left = unplanned(connection, plan)
    if left:
        raise UnplannedReference([reference.name for reference in left])


def require_other_managers(connection: Connection, user_id: UUID) -> None:
    """Raise OnlyManager if a live service would be left with nobody. What it found holds until the commit.

    It holds against other deletions; whoever takes a permission away by other means must look for himself.
    """
    user_deletions_dao.take_turns_of_managers(connection, user_id)
    look_for_other_managers(connection, user_id)


def look_for_other_managers(connection: Connection, user_id: UUID) -> None:
    """The same, as things stand: for who changes nothing."""
    services = user_deletions_dao.managed_by_nobody_else(connection, user_id)
    if services:
        raise OnlyManager(services)
