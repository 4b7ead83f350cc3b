"""Visits: that a user is still there. One takes back the warning about inactivity."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from app.dao import users_dao

BETWEEN_RECORDS = timedelta(hours=1)
"""A user's visits are written no more often: every front end calls at its start."""


def record_visit(connection: Connection, user_id: UUID, now: datetime) -> bool:
    """Record the visit unless one was within the hour. A warning is taken back all the same."""
    return users_dao.visit(connection, user_id, now, now - BETWEEN_RECORDS)
