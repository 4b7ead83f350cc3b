"""Rows of other tables that point at the notifications of a batch: leave those, or delete the rows with them.

After the lock, in statements of their own: what came to refer to a row since the choice's snapshot is seen, and nothing
more can come, since whoever refers to a row locks it, too. Where no table refers, nothing is asked.
"""

from sqlalchemy import Connection

from app.dao.platform import Platform

LEAVE_THOSE_REFERRED_TO = """
DELETE FROM retention_batch WHERE (row_table, row_address) IN (
    SELECT n.tableoid, n.ctid FROM {notifications} AS n WHERE {in_batch} AND {referred}
)
"""
DELETE_REFERRING = """
DELETE FROM {table} AS r USING {notifications} AS n
WHERE {in_batch} AND {refers}
"""


def leave_those_referred_to(connection: Connection, platform: Platform) -> int:
    """Take out of the batch, whose rows this transaction has locked, those that must stay. Returns how many."""
    if not platform.deferring:
        return 0
    return connection.exec_driver_sql(platform.driver(LEAVE_THOSE_REFERRED_TO)).rowcount


def delete_referring(connection: Connection, platform: Platform) -> None:
    """Delete the rows that are declared to go with the batch's notifications."""
    for plan in platform.deleting:
        connection.exec_driver_sql(platform.driver_for(plan, DELETE_REFERRING))
