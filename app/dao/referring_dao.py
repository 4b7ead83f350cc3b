"""Rows of other tables that point at the notifications of a batch: leave those, or delete the rows with them.

After the lock, in statements of their own: what came to refer to a row since the choice's snapshot is seen, and nothing
more can come, since whoever refers to a row locks it, too. Where no table refers, nothing is asked.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from app.dao.platform import Platform

REFERRED_TO = "SELECT n.id FROM {notifications} AS n WHERE n.id = ANY (%(ids)s::uuid[]) AND {referred}"
LEAVE_THOSE_REFERRED_TO = """
DELETE FROM retention_batch WHERE row_address = ANY (ARRAY(
    SELECT n.ctid FROM {notifications} AS n
    WHERE n.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch)) AND {referred}
))
"""
DELETE_REFERRING = """
DELETE FROM {table} AS r USING {notifications} AS n
WHERE n.ctid = ANY (ARRAY(SELECT row_address FROM retention_batch)) AND {refers}
"""


def referred_to(connection: Connection, platform: Platform, ids: Sequence[UUID]) -> set[UUID]:
    """Of these notifications, which this transaction has locked, those that must stay."""
    if not platform.deferring or not ids:
        return set()
    return set(connection.exec_driver_sql(platform.driver(REFERRED_TO), {"ids": list(ids)}).scalars())


def leave_those_referred_to(connection: Connection, platform: Platform) -> None:
    """Take out of the batch, whose rows this transaction has locked, those that must stay."""
    if platform.deferring:
        connection.exec_driver_sql(platform.driver(LEAVE_THOSE_REFERRED_TO))


def delete_referring(connection: Connection, platform: Platform) -> None:
    """Delete the rows that are declared to go with the batch's notifications."""
    for plan in platform.deleting:
        connection.exec_driver_sql(platform.driver_for(plan, DELETE_REFERRING))
