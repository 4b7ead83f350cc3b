"""Emptying the table of sessions of its dead at once. Nothing may be lost.

Under a lock that keeps everybody out, the living are set aside, the table is truncated and the living are put back, in
one transaction: the table stays the same one, with its indexes, constraints and grants. Who waits for the lock comes
after the commit, and finds everything as if the dead had been deleted row by row.
"""

import random
import time
from dataclasses import dataclass

import structlog
from psycopg2 import errors
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts.session_cleanup import anonymous_before
from app.accounts.tools import tools
from app.dao import user_sessions_dao
from app.dao.user_sessions_dao import MayEmpty
from app.db import db

log = structlog.get_logger(__name__)

SECONDS_TO_WAIT_FOR_LOCK = 1.0
"""While it waits, everybody who comes after it waits, too."""
ATTEMPTS = 10
SECONDS_BETWEEN_ATTEMPTS = 2.0
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


def rebuild(longest_lock_seconds: float, pause: float = SECONDS_BETWEEN_ATTEMPTS) -> Rebuilt:
    """Rebuild the table from its living rows. Raises CannotRebuild; then nothing has changed."""
    check()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            rebuilt = _attempt(longest_lock_seconds)
        except DBAPIError as error:
            if isinstance(error.orig, errors.QueryCanceled):
                raise CannotRebuild(
                    f"The living sessions could not be copied within {longest_lock_seconds:g} s, for which everybody "
                    "would have been kept out. Nothing was changed. Purge without --rebuild, or allow more with "
                    "--longest-lock when nobody needs the table."
                ) from None
            if not isinstance(error.orig, errors.LockNotAvailable):
                raise
            log.info("sessions-lock-not-available", attempt=attempt)
            if attempt < ATTEMPTS:
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        else:
            log.info("sessions-rebuilt", living=rebuilt.living, locked_seconds=round(rebuilt.locked_seconds, 3))
            return rebuilt
    raise CannotRebuild(
        f"In {ATTEMPTS} attempts the table was always in use for longer than {SECONDS_TO_WAIT_FOR_LOCK:g} s, by a "
        "backup perhaps. Nothing was changed. Try again when it is quieter, or purge without --rebuild."
    )


def _attempt(longest_lock_seconds: float) -> Rebuilt:
    with db.transaction(
        lock_seconds=SECONDS_TO_WAIT_FOR_LOCK,
        statement_seconds=longest_lock_seconds / 2,  # one statement reads the living, one writes them
        idle_seconds=SECONDS_TO_BE_SILENT,
        isolation_level="READ COMMITTED",  # an older snapshot would not show what was committed before the lock
    ) as connection:
        user_sessions_dao.lock(connection)
        began = time.monotonic()
        now = clock.now()
        living = user_sessions_dao.keep_only_living(connection, now, anonymous_before(tools().settings, now))
    rebuilt = Rebuilt(living, time.monotonic() - began)
    with db.transaction(statement_seconds=SECONDS_TO_ANALYZE) as connection:
        user_sessions_dao.analyze(connection)
    return rebuilt
