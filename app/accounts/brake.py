"""The brake on the sweeps over users: how many a night may warn or mark, and what stops it until a person has looked.

A night's sweep first counts everybody. If it would act on a share of the users that is out of proportion, or nobody
seems to write visits any more, it is blocked before the first user. Each act then counts against what the night may do,
in the transaction of the act itself. What an operator accepts is that night's sweep, up to the number that was seen.
"""

from datetime import datetime, timedelta
from math import floor

import structlog
from sqlalchemy import Connection

from app import clock
from app.accounts.sweeps import limits
from app.accounts.tools import tools
from app.config import Settings
from app.dao import ops_dao, user_sweeps_dao
from app.dao.inactive_users_dao import NEVER_COMPLETED
from app.dao.user_sweeps_dao import Survey, UserSweep
from app.db import db
from app.errors import BadArgument
from app.state import user_sweeps
from app.state.user_sweeps import ACCEPTABLE, MORE, NOT_TRACKED, REFUSALS, SHARE, STOPPED, WOULD

log = structlog.get_logger(__name__)

SURVEY_SECONDS = 300.0
"""Everybody is counted once a night, which takes a second or a few for each million users."""
LATELY = timedelta(days=7)
"""Of so many active users as are judged, somebody will have visited within this time."""
LEAST_VISITED_SHARE = 0.1
"""Where fewer of the active users than this have a last visit, nobody writes visits."""
KEPT_FOR = timedelta(days=400)

ACCEPT_SHARE = "accept share"
"""The action, as it is recorded."""


class Blocked(Exception):
    """The night's sweep may act on nobody more, until a person has looked."""


def begin(settings: Settings, sweep: str) -> UserSweep:
    """Tonight's sweep; the first call of a night counts everybody, and judges."""
    with db.transaction(statement_seconds=SURVEY_SECONDS) as connection:
        now = db.bounded_now(connection, clock.now())
        night = clock.local_date(now, settings.zone)
        found = user_sweeps_dao.find(connection, sweep, night)
        if found is not None:
            return found
        survey = user_sweeps_dao.survey(connection, sweep, limits(settings, sweep, now), now - LATELY)
        reason = why_blocked(settings, sweep, survey)
        user_sweeps_dao.open_sweep(
            connection,
            sweep,
            night,
            now,
            users=base(sweep, survey),
            found=survey.found,
            allowed=most_allowed(settings, base(sweep, survey)),
            blocked_by=reason,
        )
        user_sweeps_dao.forget(connection, night - KEPT_FOR)
        begun = user_sweeps_dao.find(connection, sweep, night)
    if begun is None:
        raise AssertionError("the sweep that was begun is there")
    if begun.blocked_by is not None:
        log.error("sweep-blocked", sweep=sweep, reason=begun.blocked_by, found=begun.found, users=begun.users)
    return begun


def base(sweep: str, survey: Survey) -> int:
    """The users whom a sweep's share is of."""
    return survey.users if sweep == NEVER_COMPLETED else survey.active


def most_allowed(settings: Settings, users: int) -> int | None:
    """On how many of so many users a night may act; None: on any number."""
    share = settings.inactive_share
    return None if share is None else max(settings.inactive_share_least, floor(share * users))


def why_blocked(settings: Settings, sweep: str, survey: Survey) -> str | None:
    """What is out of proportion, in a word, if anything is."""
    if not survey.found:
        return None
    if sweep != NEVER_COMPLETED and survey.active > settings.inactive_share_least:
        if survey.visited < LEAST_VISITED_SHARE * survey.active:
            return NOT_TRACKED
        if not survey.visited_lately:
            return STOPPED
    allowed = most_allowed(settings, base(sweep, survey))
    return SHARE if allowed is not None and survey.found > allowed else None


def take(connection: Connection, of: UserSweep) -> None:
    """Count a user on whom the sweep acts in the caller's transaction. Raises Blocked."""
    if not user_sweeps_dao.take(connection, of):
        raise Blocked


def count_refusal(connection: Connection, settings: Settings, of: UserSweep, now: datetime) -> None:
    """An address refused the warning. Too many of them stop the sweep."""
    user_sweeps_dao.refused(
        connection,
        of,
        now,
        least=settings.inactive_share_least,
        share=settings.warnings_refused_share,
        reason=REFUSALS,
    )


def block_if_spent(settings: Settings, of: UserSweep) -> None:
    """After Blocked: if the night has done all that it may, count who is left, and wait for a person."""
    with db.transaction(statement_seconds=SURVEY_SECONDS) as connection:
        now = db.bounded_now(connection, clock.now())
        found = user_sweeps_dao.count_found(connection, of.sweep, limits(settings, of.sweep, now))
        user_sweeps_dao.block(connection, of, now, reason=MORE, found=found)
    log.error("sweep-blocked", sweep=of.sweep, reason=MORE, found=found, users=of.users)


def latest() -> list[UserSweep]:
    """The last night of each sweep."""
    with db.transaction(read_only=True) as connection:
        return user_sweeps_dao.latest(connection)


def accept(sweep: str, number: int, by: str) -> UserSweep:
    """Let the blocked sweep act on `number` users, who must be as many as were found. Raises BadArgument."""
    settings = tools().settings
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        of = next((one for one in user_sweeps_dao.latest(connection) if one.sweep == sweep), None)
        if of is None or of.blocked_by is None:
            raise BadArgument(f"the sweep {sweep} is not blocked")
        if of.blocked_by not in ACCEPTABLE:
            why = user_sweeps.stopped(of)
            raise BadArgument(f"the sweep {sweep} can't be accepted. {why.in_full if why else ''}")
        if of.found != number:
            raise BadArgument(f"the sweep {sweep} {WOULD[sweep].format(**vars(of))}, not {number:,}")
        if not user_sweeps_dao.accept(connection, of, clock.local_date(now, settings.zone), now, by):
            raise BadArgument(f"the sweep {sweep} has just changed; look again")
        ops_dao.record_action(connection, ACCEPT_SHARE, by, now, detail=sweep, count=number)
    log.warning("share-accepted", sweep=sweep, count=number, by=by)
    return of
