"""Periodic messages that have piled up do their work once.

While no worker runs, beat's messages wait. Rather than an hour of them at once, the first does the work, and those that
follow within a share of the interval end at once. Told by the database's clock alone: an expiry of Celery's is written
by beat's host and read by the worker's, and a worker whose clock is ahead would drop every message.
"""

from collections.abc import Callable
from typing import Any

import structlog

from app.dao import heartbeats_dao
from app.db import db

log = structlog.get_logger(__name__)

SHARE = 0.25
"""Of the interval, from the beginning of the work on: beat's next message is never so early."""


def run(task: str, interval_seconds: float, do: Callable[[], Any]) -> Any:
    """Do it, unless that was begun a moment ago and has been done. What fails, or is killed, has not."""
    with db.transaction() as connection:
        now, since = heartbeats_dao.periodic(connection, task)
    if since is not None and since < SHARE * interval_seconds:
        log.info("periodic-message-too-soon", task=task, seconds_ago=round(since, 1))
        return None
    result = do()
    with db.transaction() as connection:
        heartbeats_dao.note(connection, heartbeats_dao.PERIODIC, task, now)
    return result
