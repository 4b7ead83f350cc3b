"""The work of a deletion: one table at a time, in batches of their own short transactions, the user's row last.

Whoever kills this anywhere finds what was committed done and counted, and the rest as it was: each step asks what
is left, so that beginning again is going on. Nothing here holds the user's row but the last step. What refuses, a
table or a row of it, keeps itself and the user's row, and nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from functools import partial
from uuid import UUID

import structlog
from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts.conditions import require_other_managers, require_planned
from app.accounts.errors import NotMarked
from app.accounts.files import FilesRefused, user_files
from app.accounts.requests import limit_to
from app.config import Settings
from app.dao import user_children_dao, user_deletions_dao
from app.dao.deletion_plan import PLAN, Action, Child
from app.dao.user_children_dao import Batch, User
from app.db import db
from app.engine import leases, stops
from app.engine.isolation import MOST_REFUSED, isolate
from app.engine.leases import Lease
from app.models import GHOST_USER_ID
from app.refusals import Refusal, refusal_of
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, BucketRefuses, Stopped

log = structlog.get_logger(__name__)

LOCK_SECONDS = 1
"""A batch that waits for somebody makes others wait for what it has locked: not for long."""
STATEMENT_SECONDS = 20
STATEMENT_SECONDS_AT_END = 5
"""Work on the same user waits for the last step."""

FILES, USERS = "files", "users"
OUT_OF_PATIENCE = (errors.QueryCanceled, errors.LockNotAvailable)
OF_THE_SERVER = ("08", "25", "53", "57P", "58", "XX")
"""Classes of SQLSTATEs that no single table is to blame for."""


class Outcome(Enum):
    """What a stretch of work came to."""

    COMPLETE = "complete"
    OUT_OF_TIME = "out of time"


class _End(Enum):
    """What the last step came to."""

    GONE = "gone"
    MORE = "more"


class StillThere(RuntimeError):
    """Tables or files refused to go, each for a reason without values. All else is gone, but for the user's row."""


@dataclass
class Stretch:
    """What a stretch of work has committed, or is about to, and what it came upon."""

    rows: int = 0
    files: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    """What refused to go: a column of the plan, or `files`, and why."""
    address: str | None = None
    """The user's, as long as the row is there."""
    at: str = USERS
    """Where the last step is: a column of the plan, or the user's row."""

    @property
    def is_idle(self) -> bool:
        return not (self.rows or self.files)

    @property
    def reason(self) -> str | None:
        """What keeps the account, if anything does."""
        return "; ".join(f"{what}: {why}" for what, why in self.kept.items()) or None


@dataclass(frozen=True)
class Work:
    """A deletion under a lease, to be done until the deadline."""

    settings: Settings
    user_id: UUID
    lease: Lease
    deadline: Deadline
    task_id: str | None = None
    in_request: bool = False
    plan: Sequence[Child] = PLAN
    done: Stretch = field(default_factory=Stretch)

    @property
    def user(self) -> User:
        return User(self.user_id, self.done.address)

    @property
    def rows(self) -> int:
        """Rows in a batch: fewer after attempts that got nowhere, down to the one that is in the way."""
        return max(1, self.settings.account_rows_per_batch >> (self.lease.attempts - 1))

    @property
    def is_over(self) -> bool:
        return self.deadline.remaining() <= 0


def work(the_work: Work) -> Outcome:
    """Delete as much of the account as there is time for.

    Raises NotMarked, UnplannedReference and OnlyManager before anything has gone, StillThere when all has gone that
    can go, Held, LeaseLost, and what stopped it.
    """
    _require_that_it_may_begin(the_work)
    while True:
        if not (clean_tables(the_work) and clean_files(the_work)) or (the_work.in_request and the_work.is_over):
            return Outcome.OUT_OF_TIME
        if the_work.done.kept:
            raise StillThere(the_work.done.reason)
        if _try_last_step(the_work) is _End.GONE:
            break
        if the_work.is_over:
            return Outcome.OUT_OF_TIME
    # A file that was on its way when the row went.
    if not clean_files(the_work):
        return Outcome.OUT_OF_TIME
    if the_work.done.kept:
        raise StillThere(the_work.done.reason)
    with _transaction(the_work) as connection:
        now = clock.now()
        leases.give_back(connection, the_work.lease, due_at=now, state="complete", reason=None, completed_at=now)
    return Outcome.COMPLETE


def _require_that_it_may_begin(the_work: Work) -> None:
    """The user's own row must say that it is to go; and what the last step would refuse is refused before anything
    has gone.
    """
    with _transaction(the_work) as connection:
        if user_deletions_dao.lacks_mark(connection, the_work.user_id):
            raise NotMarked
        require_planned(connection, the_work.plan)
        require_other_managers(connection, the_work.user_id)
        the_work.done.address = user_deletions_dao.address(connection, the_work.user_id)


def clean_tables(the_work: Work) -> bool:
    """Go through what the plan has for the user, but for what goes at the end. Returns whether there was time.

    A table that refuses is noted in `kept`, and the next one begins.
    """
    return all(clean_table(the_work, child) for child in _left(the_work))


def clean_table(the_work: Work, child: Child) -> bool:
    """One column, batch by batch: fewer rows than the limit means that it is done. Returns whether there was time."""
    while not the_work.is_over:
        rows = _try_batch(the_work, child)
        if isinstance(rows, Refusal):
            return _set_aside(the_work, child, rows)
        if rows < the_work.rows:
            return True
    return False


def _try_batch(the_work: Work, child: Child, keys: Sequence[str] | None = None) -> int | Refusal:
    """A batch in a transaction of its own, of these keys only if they are given. Returns how many rows, or why not."""
    try:
        with _transaction(the_work) as connection:
            rows = act(connection, child, Batch(child, the_work.user, the_work.rows, keys))
            if rows:
                _count(connection, the_work, rows=rows)
    except DBAPIError as error:
        return _refusal_of_table(the_work, error)
    return rows


def _refusal_of_table(the_work: Work, error: DBAPIError) -> Refusal:
    """Why a table refuses. Raises the error when it is about the server, or a request's statement ran out of time."""
    refusal = refusal_of(error)
    is_over = the_work.in_request and the_work.is_over and isinstance(error.orig, OUT_OF_PATIENCE)
    if is_over or refusal.sqlstate is None or refusal.sqlstate.startswith(OF_THE_SERVER):
        raise error
    return refusal


def _set_aside(the_work: Work, child: Child, refusal: Refusal) -> bool:
    """Find the rows that the table refuses, if single ones may be the cause, and let the others go.

    Returns whether there was time. Each trial is a transaction of its own: what goes has gone.
    """
    refused: dict[str, Refusal] = {}
    is_whole = not refusal.may_be_one_row
    while not is_whole and not the_work.is_over:
        with _transaction(the_work) as connection:
            batch = Batch(child, the_work.user, the_work.rows)
            keys = user_children_dao.keys(connection, batch, list(refused))
        if not keys:
            break
        try:
            found = isolate(keys, lambda some: _trial(the_work, child, some), is_time_up=lambda: the_work.is_over)
        except _NotOfRows as error:
            is_whole, refusal = True, error.refusal
            break
        refused |= found.refused
        is_whole = found.everything is not None or len(refused) > MOST_REFUSED
    if not (refused or is_whole or the_work.is_over):
        return True  # it was a matter of the moment
    refusal = next(iter(refused.values()), refusal)
    rows = None if is_whole or not refused else len(refused)
    the_work.done.kept[child.name] = str(refusal) if rows is None else f"{refusal}, of {rows} row{'s' * (rows > 1)}"
    log.warning(
        "table-refuses",
        user_id=str(the_work.user_id),
        column=child.name,
        rows=rows,
        error=refusal.kind,
        sqlstate=refusal.sqlstate,
        constraint=refusal.constraint,
    )
    return not the_work.is_over


class _NotOfRows(RuntimeError):
    """A trial was refused for a reason that no single row is the cause of."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def _trial(the_work: Work, child: Child, keys: Sequence[str]) -> Refusal | None:
    came_of_it = _try_batch(the_work, child, keys)
    if not isinstance(came_of_it, Refusal):
        return None
    if not came_of_it.may_be_one_row:
        raise _NotOfRows(came_of_it)
    return came_of_it


def clean_files(the_work: Work) -> bool:
    """The user's files, page by page. Returns whether there was time for all of them.

    Files, or a whole bucket, that refuse are noted in `kept`.
    """
    the_work.done.kept.pop(FILES, None)
    try:
        files = user_files(the_work.user_id, the_work.deadline, in_request=the_work.in_request)
        pages = iter(files.delete() if files is not None else ())
        while _delete_page(the_work, pages):
            """There may be another one."""
    except Stopped as stopped:
        if stopped.reason == OUT_OF_TIME:
            return False
        if not the_work.done.kept:
            raise
        the_work.done.kept[FILES] = stopped.reason
    except FilesRefused as error:
        the_work.done.kept[FILES] = str(error)
    except BucketRefuses as error:
        the_work.done.kept[FILES] = error.code
    return True


def _delete_page(the_work: Work, pages: Iterator[int]) -> bool:
    """Within a transaction that has the deletion's row, so that a hold which is placed now waits for the page."""
    with _transaction(the_work) as connection:
        deleted = next(pages, None)
        if deleted is not None:
            _count(connection, the_work, files=deleted)
    return deleted is not None


def _try_last_step(the_work: Work) -> _End:
    """The last step. Raises StillThere when a table refuses, by the name of the table that was at work."""
    try:
        return last_step(the_work)
    except DBAPIError as error:
        the_work.done.kept[the_work.done.at] = str(_refusal_of_table(the_work, error))
    raise StillThere(the_work.done.reason)


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
        the_work.done.address = user.email_address
        _limit(connection, the_work)
        require_other_managers(connection, the_work.user_id)
        rows = _clean_up_to(connection, the_work, _with_rows(connection, the_work))
        is_clean = rows < the_work.rows
        if is_clean:
            if the_work.settings.retain_emails:
                user_deletions_dao.retain_email(connection, user.email_address, clock.now())
            user_deletions_dao.set_confirmation_address(connection, the_work.user_id, user.email_address)
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
            the_work.done.at = child.name
            done += act(connection, child, Batch(child, the_work.user, the_work.rows - done))
    the_work.done.at = USERS
    return done


def _left(the_work: Work) -> list[Child]:
    """The columns to clean before the last step: those with rows, or all where one of the tables can't be asked."""
    try:
        with _transaction(the_work) as connection:
            left = _with_rows(connection, the_work)
    except DBAPIError as error:
        _refusal_of_table(the_work, error)
        left = _to_do(the_work)
    return [child for child in left if not child.at_end]


def _with_rows(connection: Connection, the_work: Work) -> list[Child]:
    """What the plan still has to do for the user."""
    to_do = _to_do(the_work)
    return [to_do[place] for place in user_children_dao.with_rows(connection, the_work.user, to_do)]


def _to_do(the_work: Work) -> list[Child]:
    return [child for child in the_work.plan if child.action is not Action.KEEP]


def act(connection: Connection, child: Child, batch: Batch) -> int:
    """Do what the plan says with a batch of the column's rows. Returns how many; fewer than its `rows`: it is done."""
    match child.action:
        case Action.DELETE:
            return user_children_dao.delete(connection, batch)
        case Action.SET_NULL:
            return user_children_dao.give_to(connection, batch, to=None)
        case Action.REASSIGN if child.unique_with:
            return user_children_dao.give_unique_to(connection, batch, unique_with=child.unique_with, to=GHOST_USER_ID)
        case Action.REASSIGN:
            return user_children_dao.give_to(connection, batch, to=GHOST_USER_ID)
        case Action.REMOVE_FROM_ARRAY:
            return user_children_dao.remove_from_arrays(connection, batch)
    return 0


def _count(connection: Connection, the_work: Work, *, rows: int = 0, files: int = 0) -> None:
    until = clock.now() + timedelta(seconds=the_work.settings.lease_seconds)
    done = {"rows_done": rows, "files_done": files}
    leases.change(connection, the_work.lease, add=done, lease_until=until)
    the_work.done.rows += rows
    the_work.done.files += files


@contextmanager
def _transaction(the_work: Work, statement_seconds: float = STATEMENT_SECONDS) -> Iterator[Connection]:
    lock_seconds = min(LOCK_SECONDS, the_work.settings.lock_timeout_seconds)
    with db.transaction(statement_seconds=statement_seconds, lock_seconds=lock_seconds) as connection:
        _limit(connection, the_work)
        user_children_dao.read_by_index(connection)
        _require_not_held(connection, the_work)
        yield connection


def _require_not_held(connection: Connection, the_work: Work) -> None:
    """Raise Held while the pipeline is paused, or the user is on hold, or a service of whose rows the plan would
    change some. Raises LeaseLost.
    """
    standing = stops.standing(connection, partial(leases.lock, lease=the_work.lease))
    if standing.is_paused:
        raise stops.Held(stops.PAUSED)
    if the_work.user_id in standing.users:
        raise stops.Held(stops.ON_HOLD)
    if standing.services:
        columns = _to_do(the_work)
        if user_children_dao.is_any_of_services(connection, the_work.user, columns, standing.services):
            raise stops.Held(stops.ON_HOLD)


def _limit(connection: Connection, the_work: Work) -> None:
    """A request's statements end with its time; a worker's have their own limits."""
    limit_to(connection, the_work.deadline if the_work.in_request else None)
