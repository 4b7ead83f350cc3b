"""Holds and the pause. A hold or a pause that was confirmed is never overtaken.

Every transaction that destroys begins with `stopped`: it locks a row of its own, and then reads the holds in a
statement, and so a snapshot, of its own. Whoever places a hold commits it first, and then waits for the rows of
whatever was under way: what locked its row before that has ended by then, and what locks it later sees the hold.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from app.dao import holds_dao, turns_dao
from app.dao.holds_dao import PIPELINE, USER, Unit
from app.db import db
from app.storage.client import Deadline

PAUSED, ON_HOLD = "paused", "on-hold"
"""Why work must stop."""

Own = Callable[[Connection], None]
"""Locks the row of a piece of work until the commit. Raises when the work is no longer its worker's to do."""

SECONDS_FOR_ONE_ROW = 0.05
"""What is left to each row when the time to wait is up: enough to see that nobody has it."""
OUT_OF_PATIENCE = (errors.LockNotAvailable, errors.QueryCanceled)


class WrongIsolation(RuntimeError):
    """The transaction reads from a snapshot that may be older than its locks: it must be READ COMMITTED."""


class Held(Exception):
    """A hold, or the pause, forbids to go on. The text is ON_HOLD or PAUSED; the transaction is rolled back."""


def turn(name: str) -> Own:
    """For work that has no row of its own: a share of its kind's."""
    return partial(turns_dao.share, name=name)


def stopped(
    connection: Connection, own: Own, *, services: Collection[UUID] = (), users: Collection[UUID] = ()
) -> str | None:
    """PAUSED, or ON_HOLD when one of these is, or None: go on. It holds until the commit.

    The first thing that a transaction does which destroys anything. Raises WrongIsolation, and what `own` raises.
    """
    own(connection)
    scopes = [PIPELINE, *map(holds_dao.of_service, services), *map(holds_dao.of_user, users)]
    held = _standing(connection, scopes)
    if PIPELINE in held:
        return PAUSED
    return ON_HOLD if held else None


def require_none(
    connection: Connection, own: Own, *, services: Collection[UUID] = (), users: Collection[UUID] = ()
) -> None:
    """As `stopped`; raises Held instead of saying so."""
    reason = stopped(connection, own, services=services, users=users)
    if reason:
        raise Held(reason)


@dataclass(frozen=True)
class Standing:
    """What is on hold, and whether everything is paused."""

    is_paused: bool
    services: frozenset[UUID]
    users: frozenset[UUID]


def standing(connection: Connection, own: Own) -> Standing:
    """For work that leaves out what is on hold, as `stopped` for the rest: first, and good until the commit."""
    own(connection)
    scopes = _standing(connection)
    users = {scope.removeprefix(USER) for scope in scopes if scope.startswith(USER)}
    services = {scope for scope in scopes if not scope.startswith(USER)} - {PIPELINE}
    return Standing(PIPELINE in scopes, frozenset(map(UUID, services)), frozenset(map(UUID, users)))


def is_paused(connection: Connection) -> bool:
    """Whether to begin at all. It says nothing of what follows: ask `stopped` in the transaction that destroys."""
    return PIPELINE in holds_dao.standing(connection, [PIPELINE])[1]


def _standing(connection: Connection, scopes: Iterable[str] | None = None) -> set[str]:
    isolation, held = holds_dao.standing(connection, scopes)
    if isolation != "read committed":
        raise WrongIsolation(WrongIsolation.__doc__)
    return held


def still_running(scope: str, seconds: float) -> list[Unit]:
    """Wait, so long at most, for what was under way when a hold was committed. Returns what has not ended by then."""
    deadline = Deadline(seconds)
    with db.transaction(read_only=True) as connection:
        units = holds_dao.under_way(connection, scope)
    return [unit for unit in units if not _has_ended(unit, max(deadline.remaining(), SECONDS_FOR_ONE_ROW))]


def _has_ended(unit: Unit, seconds: float) -> bool:
    try:
        with db.transaction(lock_seconds=seconds, statement_seconds=seconds + 1) as connection:
            holds_dao.wait_for(connection, unit)
    except OperationalError as error:
        if not isinstance(error.orig, OUT_OF_PATIENCE):
            raise
        return False
    return True
