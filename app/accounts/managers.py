"""A live service must have somebody who can manage it: an active user, not in deletion, with `manage_service`."""

from uuid import UUID

from sqlalchemy import Connection

from app.accounts.errors import OnlyManager
from app.dao import user_deletions_dao


def require_other_managers(connection: Connection, user_id: UUID) -> None:
    """Raise OnlyManager if a live service would be left with nobody. What it found holds until the commit.

    It holds against other deletions; whoever takes a permission away by other means must look for himself.
    """
    services = user_deletions_dao.managed_by_nobody_else(connection, user_id)
    if services:
        raise OnlyManager(services)
