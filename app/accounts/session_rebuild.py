"""Emptying the table of sessions of its dead at once. Nothing may be lost.

Under a lock that keeps everybody out, the living are set aside, the table is truncated and the living are put back, in
one transaction: the table stays the same one, with its indexes, constraints and grants. Who waits for the lock comes
after the commit, and finds everything as if the dead had been deleted row by row.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts.session_cleanup import anonymous_before
from app.accounts.tools import tools
from app.dao import turns_dao, user_sessions_dao
from app.dao.user_sessions_dao import Holder, MayEmpty
from app.db import db
from app.engine import stops
from app.state import asked
from app.state.findings import SESSIONS

log = structlog.get_logger(__name__)

SECONDS_TO_WAIT_FOR_LOCK = 0.5
"""While it waits, everybody who comes after it waits, too. Less than PostgreSQL's deadlock_timeout: of two that wait
for each other this one gives way."""
PATIENCE_SECONDS = 60.0
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_OF_A_SHORT_TRANSACTION = 0.2
"""One that holds the table for longer is waited for without asking for the lock."""
SECONDS_TO_LOOK = 10
SECONDS_TO_BE_SILENT = 10
"""A process that is stopped under the lock loses it then."""
SECONDS_TO_ANALYZE = 300


class CannotRebuild(RuntimeError):
    """The table is as it was, for the reason that the message gives."""


@dataclass(frozen=True)
class Rebuilt:
    """Living sessions that were kept, and the seconds for which everybody else was kept out."""

    living: int
    locked_seconds: float


def check() -> None:
    """Raise CannotRebuild where this role, or the table, does not allow it."""
    with db.transaction(read_only=True) as connection:
        may: MayEmpty = user_sessions_dao.may_empty(connection)
    if not may.allowed:
        raise CannotRebuild(
            f"This role may not empty user_sessions, or make a temporary table. Its owner {may.owner} may: "
            "run this with a DATABASE_URL of that role, or purge without --rebuild, which needs no more than DELETE."
        )
    if may.is_referred_to:
        raise CannotRebuild(
            "Another table refers to user_sessions, so that it can't be emptied. Purge without --rebuild."
        )


def rebuild(
    longest_lock_seconds: float, patience_seconds: float = PATIENCE_SECONDS, say: Callable[[str], None] = lambda _: None
) -> Rebuilt:
    """Rebuild the table from its living rows. Raises CannotRebuild; then nothing has changed.

    While a transaction that does not end soon holds the table, or the row of a user with a session, nothing is asked
    for, so that nobody waits behind this; `say` is told who that is, once.
    """
    asked.require(SESSIONS)
    check()
    gives_up_at = time.monotonic() + patience_seconds
    waited_for: dict[str, Holder] = {}
    while True:
        if not waited_for:
            rebuilt, waited_for = _try(longest_lock_seconds)
            if rebuilt is not None:
                log.info("sessions-rebuilt", living=rebuilt.living, locked_seconds=round(rebuilt.locked_seconds, 3))
                return rebuilt
            if waited_for:
                say(f"Waiting for {_named(waited_for)}.")
            log.info("sessions-lock-not-available", held_by=[holder.pid for holder in waited_for.values()])
        if time.monotonic() >= gives_up_at:
            raise CannotRebuild(
                f"For {patience_seconds:g} s the table, or the row of a user with a session, was held by "
                f"{_named(waited_for)}. Nothing was changed, and nobody was kept out by this for long. End that, try "
                "again when it is over, or purge without --rebuild."
            )
        time.sleep(SECONDS_BETWEEN_LOOKS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        waited_for = _still_there(waited_for)


def _try(longest_lock_seconds: float) -> tuple[Rebuilt | None, dict[str, Holder]]:
    """What came of an attempt, or which transactions are in its way and do not end soon."""
    before = _holders()
    if before:
        time.sleep(SECONDS_OF_A_SHORT_TRANSACTION)
        if there := _still_there(before):
            return None, there
    try:
        return _attempt(longest_lock_seconds), {}
    except DBAPIError as error:
        if isinstance(error.orig, errors.QueryCanceled):
            raise CannotRebuild(
                f"The living sessions could not be copied within {longest_lock_seconds:g} s, for which everybody "
                "would have been kept out. Nothing was changed. Purge without --rebuild, or allow more with "
                "--longest-lock when nobody needs the table."
            ) from None
        if not isinstance(error.orig, errors.LockNotAvailable):
            raise
    return None, {}


def _still_there(before: Mapping[str, Holder]) -> dict[str, Holder]:
    """Those of the transactions that have not ended."""
    return {key: holder for key, holder in _holders().items() if key in before}


def _holders() -> dict[str, Holder]:
    """By transaction, who holds the table or users' rows at this moment."""
    now = clock.now()
    before = anonymous_before(tools().settings, now)
    with db.transaction(read_only=True, statement_seconds=SECONDS_TO_LOOK) as connection:
        of_users = user_sessions_dao.holders(connection, now, before, of_users=True)
        # Last, since asking for the others reads the table, too.
        of_table = user_sessions_dao.holders(connection, now, before, of_users=False)
    return {holder.transaction: holder for holder in of_users + of_table}


def _named(held_by: Mapping[str, Holder]) -> str:
    """`pid 4711 (psql, in a transaction since 12:00:05 UTC)`: the oldest of them, and how many there are."""
    if not held_by:
        return "many short transactions, one after the other"
    holder, *others = held_by.values()
    who = "a prepared transaction" if holder.pid is None else f"pid {holder.pid}"
    since = "a time that only pg_read_all_stats shows" if holder.since is None else f"{holder.since:%H:%M:%S} UTC"
    of_others = f" and {len(others)} more" if others else ""
    return f"{who} ({holder.application_name or 'no application name'}, in a transaction since {since}){of_others}"


def _attempt(longest_lock_seconds: float) -> Rebuilt:
    with db.transaction(
        lock_seconds=SECONDS_TO_WAIT_FOR_LOCK,
        statement_seconds=longest_lock_seconds / 2,  # one statement reads the living, one writes them
        idle_seconds=SECONDS_TO_BE_SILENT,
    ) as connection:
        standing = stops.standing(connection, stops.turn(turns_dao.SESSIONS))
        if standing.is_paused or standing.users:
            raise CannotRebuild(
                "The pipeline is paused. Nothing was changed. Try again after: flask retention resume"
                if standing.is_paused
                else "Users are on hold, whose sessions stay. Nothing was changed. Purge without --rebuild."
            )
        now = db.bounded_now(connection, clock.now())
        before = anonymous_before(tools().settings, now)
        # In the order of everybody else: users' rows, then the table. Under the table's lock nothing is waited for.
        user_sessions_dao.lock_users(connection, now, before)
        user_sessions_dao.lock(connection)
        began = time.monotonic()
        user_sessions_dao.lock_users(connection, now, before)
        living = user_sessions_dao.keep_only_living(connection, now, before)
    rebuilt = Rebuilt(living, time.monotonic() - began)
    with db.transaction(statement_seconds=SECONDS_TO_ANALYZE) as connection:
        user_sessions_dao.analyze(connection)
    return rebuilt
