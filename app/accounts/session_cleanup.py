"""Dead sessions. A step removes at most a batch of them, oldest first, in one short transaction.

Fewer removed than the batch holds means that the work is done. Any number of workers drain together: each passes over
what another holds. A step is told how far the one before it came, so that it need not walk again through the entries
of what is gone but not yet vacuumed.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from app.accounts.tools import tools
from app.config import Settings
from app.dao import totals_dao, turns_dao, user_sessions_dao
from app.dao.user_sessions_dao import Count, Deferred
from app.db import db
from app.engine import stops
from app.engine.isolation import isolate
from app.engine.leases import LONGEST_BACK_OFF_SECONDS
from app.engine.singly import refusal_to
from app.refusals import Refusal, refusal_of
from app.state import asked
from app.state.findings import SESSIONS
from app.storage.client import Deadline

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


class SessionsRefused(RuntimeError):
    """The database refuses to delete sessions, all alike. Nothing was removed; the reason holds no value of a row."""


def step(
    now: datetime,
    limit: int,
    expired_from: datetime | None = None,
    anonymous_from: datetime | None = None,
    task_id: str | None = None,
) -> Progress:
    """Remove at most `limit` sessions that are dead at `now`: expired ones, then anonymous ones that are too old.

    A clock that is ahead of the database's counts as that one: it would end living sessions. Those of users on hold
    stay, and all of them while the pipeline is paused. Single sessions that the database refuses are remembered, and
    tried again later; raises SessionsRefused where it refuses them all, and PolicyBlocked where something is not as
    sessions need it.
    """
    asked.require(SESSIONS)
    began = time.monotonic()
    progress = _batch(now, limit, expired_from, anonymous_from)
    if isinstance(progress, Refusal):
        progress = _isolate(now, limit)
    if progress is None:
        log.info("sessions-not-removed", task_id=task_id, why=stops.PAUSED)
        return Progress(0, 0, expired_from, anonymous_from, is_more=False)
    log.info(
        "sessions-removed",
        task_id=task_id,
        expired=progress.expired,
        anonymous=progress.anonymous,
        more=progress.is_more,
        seconds=round(time.monotonic() - began, 3),
    )
    return progress


def _batch(
    now: datetime, limit: int, expired_from: datetime | None, anonymous_from: datetime | None
) -> Progress | Refusal | None:
    """Remove a batch, or say why the database refuses it when single rows may be the cause; None under a pause."""
    try:
        with db.transaction() as connection:
            standing = stops.standing(connection, stops.turn(turns_dao.SESSIONS))
            if standing.is_paused:
                return None
            now = db.bounded_now(connection, now)
            before = anonymous_before(tools().settings, now)
            user_sessions_dao.read_in_order(connection)
            expired = user_sessions_dao.delete_expired(connection, now, expired_from, limit, standing.users)
            left = limit - expired.rows
            anonymous = user_sessions_dao.delete_anonymous(connection, now, before, anonymous_from, left)
            removed = expired.rows + anonymous.rows
            if removed:
                totals_dao.record_sessions(connection, now, removed)
            if removed < limit:
                user_sessions_dao.forget_deferred(connection)
    except DBAPIError as error:
        refusal = refusal_of(error)
        if not refusal.may_be_one_row:
            raise
        return refusal
    return Progress(
        expired=expired.rows,
        anonymous=anonymous.rows,
        expired_from=expired.up_to or expired_from,
        anonymous_from=anonymous.up_to or anonymous_from,
        is_more=removed == limit,
    )


def _isolate(now: datetime, limit: int) -> Progress | None:
    """Find the sessions of a batch that the database refuses, remember them, and remove the others. None as above."""
    settings = tools().settings
    deadline = Deadline(settings.step_budget_seconds)
    with db.transaction() as connection:
        standing = stops.standing(connection, stops.turn(turns_dao.SESSIONS))
        if standing.is_paused:
            return None
        now = db.bounded_now(connection, now)
        before = anonymous_before(settings, now)
        user_sessions_dao.read_in_order(connection)
        ids, expired = user_sessions_dao.lock_dead(connection, now, before, limit, standing.users)
        if not ids:
            return Progress(0, 0, None, None, is_more=False)
        found = isolate(
            ids,
            lambda some: refusal_to(connection, some, user_sessions_dao.delete_these),
            is_time_up=lambda: deadline.remaining() <= 0,
        )
        reasons = {session_id: str(why) for session_id, why in found.refused.items()}
        user_sessions_dao.defer(
            connection,
            reasons,
            now,
            base_seconds=settings.account_retry_seconds,
            longest_seconds=LONGEST_BACK_OFF_SECONDS,
        )
        if found.good:
            totals_dao.record_sessions(connection, now, len(found.good))
    if found.everything is not None:
        log.error("sessions-refused", error=str(found.everything), sessions=len(ids))
        raise SessionsRefused(str(found.everything))
    for session_id, reason in reasons.items():
        log.warning("session-deferred", session_id=str(session_id), error=reason)
    of_expired = len(set(ids[:expired]).intersection(found.good))
    return Progress(of_expired, len(found.good) - of_expired, None, None, is_more=len(ids) == limit)


def count(now: datetime) -> Count:
    """The sessions that there are at `now`. Reads the whole table."""
    with db.transaction(read_only=True, statement_seconds=SECONDS_TO_COUNT) as connection:
        return user_sessions_dao.count(connection, now, anonymous_before(tools().settings, now))


def deferred() -> list[Deferred]:
    """Sessions that the database refuses to delete, by reason."""
    with db.transaction(read_only=True) as connection:
        return user_sessions_dao.deferred(connection)
