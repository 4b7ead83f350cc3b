"""Who does the work of a deletion. Its row in `user_deletions` is the truth; a message only wakes it.

A small account is deleted by the request that asks for it, whose deletion is born under a lease of the request's
own; what it can't finish in its seconds is left to the workers, like every large one. A worker's task takes the
lease, works for a step's budget and enqueues its successor. The relay finds what was captured and not sent, and
what has lost its worker or its message.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from psycopg2 import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts import confirmation, mail
from app.accounts.backoff import LONGEST_BACK_OFF_SECONDS, next_attempt
from app.accounts.errors import OnlyManager, UnknownUser
from app.accounts.files import FilesRefused, user_files
from app.accounts.files import client as files_client
from app.accounts.plan import PLAN, Action, Child
from app.accounts.requests import ISOLATION, limit_to, mark_for_deletion
from app.accounts.steps import Outcome, Work, lease_until, work
from app.accounts.tools import tools
from app.config import Settings
from app.dao import user_children_dao, user_deletions_dao
from app.dao.user_deletions_dao import Lease, LeaseLost, Record
from app.db import db
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, BucketRefuses, Stopped

log = structlog.get_logger(__name__)

WAITS_FOR_EXPORT = "waits for an export"
RESENT_AFTER_INTERVALS = 5
"""A wake-up that may still be in a deep queue is not sent again for so many of the relay's intervals."""
WAKES_PER_LOOK = 1000
SHARE_OF_FILES = 0.75
"""Of a request's seconds: S3 must not use up what the mark needs."""
OUT_OF_PATIENCE = (errors.QueryCanceled, errors.LockNotAvailable)
RECORDS_PER_PURGE = 1000


@dataclass(frozen=True)
class Deletion:
    """How far a deletion is; `items` were counted up to the threshold only."""

    state: str
    items: int | None


def delete_account(user_id: UUID, *, by: str, by_id: UUID | None, now: datetime) -> Deletion:
    """Mark the account and delete it: at once if it is small, else by the workers. Twice is the same as once.

    `by` is who asks: `user`, `administrator` or `operator`, and `by_id` his id, if any. Raises UnknownUser,
    GhostUser, OnlyManager, and the database's error when somebody holds the account's row for as long as a request
    may take; nothing has changed then.
    """
    settings = tools().settings
    # Made once a process, and it waits for nobody: the first request must not lose the seconds that others have.
    files_client(settings, in_request=True)
    deadline = Deadline(settings.account_request_seconds)
    files = _count_files(settings, user_id, Deadline(SHARE_OF_FILES * settings.account_request_seconds))
    with db.transaction(lock_seconds=settings.lock_timeout_seconds, isolation_level=ISOLATION) as connection:
        lease = _begin(connection, settings, user_id, files, deadline, by=by, by_id=by_id, now=now)
    if lease is not None:
        _work_in_request(Work(settings, lease, deadline, in_request=True))
    with db.transaction(read_only=True) as connection:
        record = user_deletions_dao.find(connection, user_id)
    if record is None:
        raise UnknownUser(user_id)  # marked, and the mark taken back meanwhile
    return Deletion(record.state, record.items)


def _begin(
    connection: Connection,
    settings: Settings,
    user_id: UUID,
    files: int,
    deadline: Deadline,
    *,
    by: str,
    by_id: UUID | None,
    now: datetime,
) -> Lease | None:
    """Mark the account, count it, and take the lease if the request is to delete it."""
    try:
        is_new = mark_for_deletion(connection, user_id, by=by, by_id=by_id, now=now, deadline=deadline)
    except UnknownUser:
        if user_deletions_dao.find(connection, user_id) is None:
            raise
        return None  # it has been deleted
    if not is_new:
        return None
    threshold = settings.account_items_in_request
    rows = _count_rows(connection, user_id, threshold - files, deadline)
    # What comes now is short, and the mark must not be lost to a limit that was meant for the counting.
    db.limit_statements(connection, settings.account_request_seconds)
    if rows is None:
        return None
    user_deletions_dao.set_items(connection, user_id, files + rows)
    if files + rows >= threshold or user_deletions_dao.is_export_pending(connection, user_id, now):
        return None
    return _claim(connection, settings, user_id, uuid4(), now)


def _count_rows(connection: Connection, user_id: UUID, at_most: int, deadline: Deadline) -> int | None:
    """None if there is no time to count them: the mark stands all the same, and a worker has more patience."""
    try:
        with connection.begin_nested():
            user_children_dao.read_by_index(connection)
            return count_items(connection, user_id, at_most, deadline=deadline)
    except (DBAPIError, Stopped) as error:
        if isinstance(error, DBAPIError) and not isinstance(error.orig, OUT_OF_PATIENCE):
            raise
        log.warning("items-not-counted", user_id=str(user_id))
        return None


def count_items(
    connection: Connection,
    user_id: UUID,
    at_most: int,
    plan: Sequence[Child] = PLAN,
    *,
    deadline: Deadline | None = None,
) -> int:
    """How many rows the plan has for the user; counted no further than `at_most`. Raises Stopped at the deadline."""
    found = 0
    for child in plan:
        if child.action is not Action.KEEP and found < at_most:
            if deadline is not None and deadline.remaining() <= 0:
                raise Stopped(OUT_OF_TIME)
            limit_to(connection, deadline)
            found += user_children_dao.count(
                connection, child.table, child.column, user_id, at_most - found, json_key=child.json_key
            )
    return found


def _count_files(settings: Settings, user_id: UUID, deadline: Deadline) -> int:
    """No further than the threshold, which is also the answer when S3 can't say: a worker has more patience."""
    threshold = settings.account_items_in_request
    try:
        files = user_files(user_id, deadline, in_request=True)
        return 0 if files is None else files.count(threshold)
    except (Stopped, BucketRefuses) as error:
        log.warning("files-not-counted", user_id=str(user_id), error=_named(error))
        return threshold


def _work_in_request(the_work: Work) -> None:
    """What ends it early is no error of the request's: the account is marked, and a worker goes on."""
    try:
        _do(the_work)
    except (DBAPIError, Stopped, BucketRefuses, FilesRefused, LeaseLost):
        """Noted on the row, or another's by now."""


def run(user_id: UUID, task_id: UUID) -> bool:
    """Do what a wake-up asks for: a stretch of the deletion, or its confirmation. Returns whether to send another.

    Raises whatever stopped it, after giving the lease back and noting the error on the row.
    """
    settings = tools().settings
    now = clock.now()
    with db.transaction(isolation_level=ISOLATION) as connection:
        lease = _claim(connection, settings, user_id, task_id, now)
        if lease is not None and user_deletions_dao.is_export_pending(connection, user_id, now):
            due_at = now + timedelta(seconds=settings.account_retry_seconds)
            user_deletions_dao.release(connection, lease, "requested", due_at=due_at, reason=WAITS_FOR_EXPORT)
            return False
    if lease is None:
        confirmation.confirm(user_id, mail.send)
        return False
    return _do(Work(settings, lease, Deadline(settings.step_budget_seconds)))


def _claim(connection: Connection, settings: Settings, user_id: UUID, token: UUID, now: datetime) -> Lease | None:
    return user_deletions_dao.claim(
        connection,
        user_id,
        token,
        now=now,
        until=lease_until(settings),
        retry_base_seconds=settings.account_retry_seconds,
        retry_longest_seconds=LONGEST_BACK_OFF_SECONDS,
    )


def _do(the_work: Work) -> bool:
    """Work, and give the lease back with what came of it. Returns whether there is more to do now."""
    user_id = str(the_work.user_id)
    began = time.monotonic()
    try:
        outcome = work(the_work)
    except LeaseLost:
        log.warning("lease-lost", user_id=user_id)
        return False
    except OnlyManager as error:
        _release(the_work, "blocked", reason=str(error))
        log.error("deletion-blocked", user_id=user_id, services=list(map(str, error.service_ids)))
        return False
    except DBAPIError as error:
        if not (the_work.in_request and the_work.is_over and isinstance(error.orig, OUT_OF_PATIENCE)):
            _give_back(the_work, error)
            raise
        outcome = Outcome.OUT_OF_TIME  # its time was up in the middle of a statement: no failure, and nothing half done
    except Exception as error:
        _give_back(the_work, error)
        raise
    log.info(
        "deletion-step",
        user_id=user_id,
        task_id=None if the_work.in_request else str(the_work.lease.token),
        outcome=outcome.value,
        rows=the_work.done.rows,
        files=the_work.done.files,
        seconds=round(time.monotonic() - began, 3),
    )
    if outcome is Outcome.OUT_OF_TIME:
        _release(the_work, "running")
    else:
        log.info("account-deleted", user_id=user_id)
    return True


def _release(the_work: Work, state: str, *, reason: str | None = None) -> None:
    """A request sends no message: what it leaves, the relay sends."""
    now = clock.now()
    with db.transaction() as connection:
        user_deletions_dao.release(
            connection, the_work.lease, state, due_at=now, reason=reason, sent_at=None if the_work.in_request else now
        )


def _give_back(the_work: Work, error: Exception) -> None:
    due_at = next_attempt(the_work.settings, clock.now(), the_work.lease.attempts)
    with db.transaction() as connection:
        user_deletions_dao.release(
            connection, the_work.lease, "running", due_at=due_at, reason=_named(error), has_failed=True
        )
    log.error(
        "deletion-failed",
        user_id=str(the_work.user_id),
        attempts=the_work.lease.attempts,
        error=_named(error),
        next_attempt=due_at.isoformat(),
    )


def _named(error: Exception) -> str:
    """The error without any value, which could be personal data."""
    match error:
        case DBAPIError():
            return f"{type(error.orig).__name__} {getattr(error.orig, 'pgcode', None) or ''}".strip()
        case Stopped():
            return error.reason
        case BucketRefuses() | FilesRefused():
            return error.code
    return type(error).__name__


def take_due() -> list[UUID]:
    """The users for whom a message must be sent now: captured, due again, or without worker or message.

    Users whose mark nobody captured, since it came with a restore, say, are captured here.
    """
    settings = tools().settings
    resent_after = timedelta(seconds=RESENT_AFTER_INTERVALS * settings.dispatch_every_seconds)
    with db.transaction() as connection:
        missed = user_deletions_dao.capture_missed(connection, WAKES_PER_LOOK)
    if missed:
        log.warning("marks-found-uncaptured", users=missed)
    now = clock.now()
    with db.transaction() as connection:
        return user_deletions_dao.take_due(connection, now=now, sent_before=now - resent_after, at_most=WAKES_PER_LOOK)


def find(user_id: UUID) -> Record | None:
    """The record of an account's deletion, if there is one."""
    with db.transaction(read_only=True) as connection:
        return user_deletions_dao.find(connection, user_id)


def purge_records() -> bool:
    """Forget deletions that were complete for long, a batch of them. Returns whether there may be more."""
    before = clock.now() - timedelta(days=tools().settings.deletion_records_kept_days)
    with db.transaction() as connection:
        purged = user_deletions_dao.purge(connection, before, RECORDS_PER_PURGE)
    if purged:
        log.info("deletion-records-purged", records=purged)
    return purged == RECORDS_PER_PURGE
