"""Dead sessions. A step removes at most a batch of them, oldest first, in one short transaction.

Fewer removed than the batch holds means that the work is done. Any number of workers drain together: each passes over
what another holds. A step is told how far the one before it came, so that it need not walk again through the entries
of what is gone but not yet vacuumed.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.accounts.tools import tools
from app.config import Settings
from app.dao import totals_dao, user_sessions_dao
from app.dao.user_sessions_dao import Count
from app.db import db

log = structlog.get_logger(__name__)

SECONDS_TO_COUNT = 600


@dataclass(frozen=True)
class Progress:
    """What a step removed, by rule, and how far it came in each: where the next one begins."""

    expired: int
    anonymous: int
    expired_from: datetime | None
    anonymous_from: datetime | None
    is_more: bool

    @property
    def rows(self) -> int:
        return self.expired + self.anonymous


def anonymous_before(settings: Settings, now: datetime) -> datetime:
    """A session without a user that was made before this instant is dead."""
    return now - timedelta(hours=settings.anonymous_session_hours)


def step(
    now: datetime,
    limit: int,
    expired_from: datetime | None = None,
    anonymous_from: datetime | None = None,
    task_id: str | None = None,
) -> Progress:
    """Remove at most `limit` sessions that are dead at `now`: expired ones, then anonymous ones that are too old."""
    before = anonymous_before(tools().settings, now)
    began = time.monotonic()
    with db.transaction() as connection:
        user_sessions_dao.read_in_order(connection)
        expired = user_sessions_dao.delete_expired(connection, now, expired_from, limit)
        left = limit - expired.rows
        anonymous = user_sessions_dao.delete_anonymous(connection, before, anonymous_from, left)
        if removed := expired.rows + anonymous.rows:
            totals_dao.record_sessions(connection, now, removed)
    progress = Progress(
        expired=expired.rows,
        anonymous=anonymous.rows,
        expired_from=expired.up_to or expired_from,
        anonymous_from=anonymous.up_to or anonymous_from,
        is_more=expired.rows + anonymous.rows == limit,
    )
    seconds = round(time.monotonic() - began, 3)
    log.info(
        "sessions-removed",
        task_id=task_id,
        expired=expired.rows,
        anonymous=anonymous.rows,
        more=progress.is_more,
        seconds=seconds,
    )
    return progress


def count(now: datetime) -> Count:
    """The sessions that there are at `now`. Reads the whole table."""
    with db.transaction(read_only=True, statement_seconds=SECONDS_TO_COUNT) as connection:
        return user_sessions_dao.count(connection, now, anonymous_before(tools().settings, now))
