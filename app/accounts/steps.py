"""The work of a deletion: one table at a time, in batches of their own short transactions, the user's row last.

Whoever kills this anywhere finds what was committed done and counted, and the rest as it was: each step asks what
is left, so that beginning again is going on. Nothing here holds the user's row but the last step.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from sqlalchemy import Connection

from app import clock
from app.accounts.files import user_files
from app.accounts.managers import require_other_managers
from app.accounts.plan import PLAN, Action, Child
from app.accounts.requests import ISOLATION, limit_to
from app.config import Settings
from app.dao import user_children_dao, user_deletions_dao
from app.dao.user_deletions_dao import Lease
from app.db import db
from app.models import GHOST_USER_ID
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, Stopped

LOCK_SECONDS = 1
"""A batch that waits for somebody makes others wait for what it has locked: not for long."""
STATEMENT_SECONDS = 20
STATEMENT_SECONDS_AT_END = 5
"""Work on the same user waits for the last step."""


class Outcome(Enum):
    """What a stretch of work came to."""

    COMPLETE = "complete"
    OUT_OF_TIME = "out of time"


class _End(Enum):
    """What the last step came to."""

    GONE = "gone"
    MORE = "more"


@dataclass
class Done:
    """What a stretch of work has committed, or is about to."""

    rows: int = 0
    files: int = 0


@dataclass(frozen=True)
class Work:
    """A deletion under a lease, to be done until the deadline."""

    settings: Settings
    lease: Lease
    deadline: Deadline
    in_request: bool = False
    plan: Sequence[Child] = PLAN
    done: Done = field(default_factory=Done)

    @property
    def user_id(self) -> UUID:
        return self.lease.user_id

    @property
    def rows(self) -> int:
        """Rows in a batch: fewer after attempts that got nowhere, down to the one that is in the way."""
        return max(1, self.settings.account_rows_per_batch >> (self.lease.attempts - 1))

    @property
    def is_over(self) -> bool:
        return self.deadline.remaining() <= 0


def work(the_work: Work) -> Outcome:
    """Delete as much of the account as there is time for. Raises OnlyManager, LeaseLost, and what stopped it."""
    _require_other_managers(the_work)
    while True:
        if not (clean_tables(the_work) and clean_files(the_work)) or (the_work.in_request and the_work.is_over):
            return Outcome.OUT_OF_TIME
        if last_step(the_work) is _End.GONE:
            break
        if the_work.is_over:
            return Outcome.OUT_OF_TIME
    # A file that was on its way when the row went.
    if not clean_files(the_work):
        return Outcome.OUT_OF_TIME
    with _transaction(the_work) as connection:
        user_deletions_dao.release(connection, the_work.lease, "complete", due_at=clock.now())
    return Outcome.COMPLETE


def _require_other_managers(the_work: Work) -> None:
    """Here as well, so that what the last step would refuse is refused before anything has gone."""
    with _transaction(the_work) as connection:
        require_other_managers(connection, the_work.user_id)


def clean_tables(the_work: Work) -> bool:
    """Go through what the plan has for the user, but for what goes at the end. Returns whether there was time."""
    with _transaction(the_work) as connection:
        left = _with_rows(connection, the_work)
    return all(clean_table(the_work, child) for child in left if not child.at_end)


def clean_table(the_work: Work, child: Child) -> bool:
    """One column, batch by batch: fewer rows than the limit means that it is done. Returns whether there was time."""
    while not the_work.is_over:
        with _transaction(the_work) as connection:
            rows = act(connection, child, the_work.user_id, the_work.rows)
            if rows:
                _count(connection, the_work, rows=rows)
        if rows < the_work.rows:
            return True
    return False


def clean_files(the_work: Work) -> bool:
    """The user's files, page by page. Returns whether there was time for all of them."""
    try:
        files = user_files(the_work.user_id, the_work.deadline, in_request=the_work.in_request)
        while files is not None and (deleted := files.delete_page()):
            with _transaction(the_work) as connection:
                _count(connection, the_work, files=deleted)
    except Stopped as stopped:
        if stopped.reason == OUT_OF_TIME:
            return False
        raise
    return True


def last_step(the_work: Work) -> _End:
    """Lock the user's row, deal with what came in meanwhile and what goes at the end, and delete the row.

    What refers to the user can't come in while the row is locked. Should more than a batch have come in before,
    the row is let go, and others go on.
    """
    if sweep(the_work) == the_work.rows:
        return _End.MORE
    with _transaction(the_work, STATEMENT_SECONDS_AT_END) as connection:
        user = user_deletions_dao.lock_user(connection, the_work.user_id)
        if user is None:
            return _End.GONE
        _limit(connection, the_work)
        require_other_managers(connection, the_work.user_id)
        rows = _clean_up_to(connection, the_work, _with_rows(connection, the_work))
        is_clean = rows < the_work.rows
        if is_clean:
            if the_work.settings.retain_emails:
                user_deletions_dao.retain_email(connection, user.email_address, clock.now())
            _limit(connection, the_work)
            user_deletions_dao.delete_user(connection, the_work.user_id)
        _count(connection, the_work, rows=rows)
    return _End.GONE if is_clean else _End.MORE


def sweep(the_work: Work) -> int:
    """What came in since the tables were cleaned, up to a batch: nobody need wait for that. Returns how many rows."""
    with _transaction(the_work) as connection:
        left = [child for child in _with_rows(connection, the_work) if not child.at_end]
        rows = _clean_up_to(connection, the_work, left)
        if rows:
            _count(connection, the_work, rows=rows)
    return rows


def _clean_up_to(connection: Connection, the_work: Work, children: Iterable[Child]) -> int:
    """A batch of all these together. Returns how many rows; fewer than a batch: nothing is left."""
    done = 0
    for child in children:
        if done < the_work.rows:
            _limit(connection, the_work)
            done += act(connection, child, the_work.user_id, the_work.rows - done)
    return done


def _with_rows(connection: Connection, the_work: Work) -> list[Child]:
    """What the plan still has to do for the user."""
    to_do = [child for child in the_work.plan if child.action is not Action.KEEP]
    columns = [(child.table, child.column, child.json_key) for child in to_do]
    return [to_do[place] for place in user_children_dao.with_rows(connection, the_work.user_id, columns)]


def act(connection: Connection, child: Child, user_id: UUID, rows: int) -> int:
    """Do what the plan says with a batch of the column's rows. Returns how many; fewer than `rows`: it is done."""
    match child.action:
        case Action.DELETE:
            return user_children_dao.delete(connection, child.table, child.column, user_id, rows, key=child.key)
        case Action.SET_NULL:
            return user_children_dao.give_to(
                connection, child.table, child.column, user_id, rows, key=child.key, to=None
            )
        case Action.REASSIGN if child.unique_with:
            return user_children_dao.give_unique_to(
                connection,
                child.table,
                child.column,
                user_id,
                rows,
                unique_with=child.unique_with,
                to=GHOST_USER_ID,
            )
        case Action.REASSIGN:
            return user_children_dao.give_to(
                connection, child.table, child.column, user_id, rows, key=child.key, to=GHOST_USER_ID
            )
        case Action.REMOVE_FROM_ARRAY if child.json_key:
            return user_children_dao.remove_from_arrays(
                connection, child.table, child.column, user_id, rows, key=child.key, json_key=child.json_key
            )
    return 0


def _count(connection: Connection, the_work: Work, *, rows: int = 0, files: int = 0) -> None:
    user_deletions_dao.progress(
        connection, the_work.lease, rows=rows, files=files, until=lease_until(the_work.settings)
    )
    the_work.done.rows += rows
    the_work.done.files += files


def lease_until(settings: Settings) -> datetime:
    """When a lease that is taken or prolonged now runs out."""
    return clock.now() + timedelta(seconds=settings.lease_seconds)


@contextmanager
def _transaction(the_work: Work, statement_seconds: float = STATEMENT_SECONDS) -> Iterator[Connection]:
    """READ COMMITTED, whatever the default: a statement sees what was committed before it got its lock."""
    lock_seconds = min(LOCK_SECONDS, the_work.settings.lock_timeout_seconds)
    with db.transaction(
        statement_seconds=statement_seconds, lock_seconds=lock_seconds, isolation_level=ISOLATION
    ) as connection:
        _limit(connection, the_work)
        user_children_dao.read_by_index(connection)
        yield connection


def _limit(connection: Connection, the_work: Work) -> None:
    """A request's statements end with its time; a worker's have their own limits."""
    limit_to(connection, the_work.deadline if the_work.in_request else None)
