"""What history came to have of a batch, beside what notifications still has: asked between the copy and the delete."""

from collections.abc import Mapping

from sqlalchemy import Connection

from app.dao.notifications_dao import Batch

# A row that history has in a newer version is not copied, and differs for that reason.
DIFFERENCES = """
SELECT {differences}
FROM {notifications} AS n
JOIN {history} AS h ON h.id = n.id
WHERE {in_batch}
  AND coalesce(n.updated_at, n.created_at) >= coalesce(h.updated_at, h.created_at)
"""


def differences(connection: Connection, batch: Batch) -> Mapping[str, int]:
    """Of how many rows each column has another value in history than in notifications; columns of none are left out."""
    platform = batch.platform
    counts = connection.exec_driver_sql(platform.mover(DIFFERENCES)).one()
    return {copy.column: count for copy, count in zip(platform.moving, counts, strict=True) if count}
