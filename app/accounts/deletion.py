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
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app import clock
from app.accounts import confirmation, mail
from app.accounts.errors import NotMarked, OnlyManager, UnknownUser, UnplannedReference
from app.accounts.files import client as files_client
from app.accounts.files import user_files
from app.accounts.requests import limit_to, mark_for_deletion
from app.accounts.steps import OUT_OF_PATIENCE, Outcome, StillThere, Work, work
from app.accounts.tools import tools
from app.config import Settings
from app.dao import turns_dao, user_children_dao, user_deletions_dao
from app.dao.deletion_plan import PLAN, Action, Child
from app.dao.user_children_dao import User
from app.dao.user_deletions_dao import CONFIRMATIONS, DELETIONS, Record
from app.db import db
from app.engine import leases, stops
from app.engine.leases import LONGEST_BACK_OFF_SECONDS, BackOff, Lease, LeaseLost
from app.engine.singly import act_on_each
from app.refusals import refusal_of
from app.state import asked
from app.state.findings import ACCOUNTS
from app.storage.client import Deadline
from app.storage.errors import OUT_OF_TIME, BucketRefuses, Stopped

log = structlog.get_logger(__name__)

WAITS_FOR_EXPORT = "waits for an export"
UNTIL_PLANNED_SECONDS = 300
"""What a foreign key that nobody planned keeps waiting goes on by itself, so soon after the plan names the key."""
WAKES_PER_LOOK = 1000
SHARE_OF_FILES = 0.75
"""Of a request's seconds: S3 must not use up what the mark needs."""
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
    with db.transaction(lock_seconds=settings.lock_timeout_seconds) as connection:
        now = db.bounded_now(connection, now)
        lease = _begin(connection, settings, user_id, files, deadline, by=by, by_id=by_id, now=now)
    if lease is not None:
        _work_in_request(Work(settings, user_id, lease, deadline, in_request=True))
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
    if asked.is_blocked(connection, ACCOUNTS):
        return None  # marked: the workers go on when it is unblocked
    return _claim(connection, settings, user_id, None, now)


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
    found, user = 0, User(user_id, user_deletions_dao.address(connection, user_id))
    for child in plan:
        if child.action is not Action.KEEP and found < at_most:
            if deadline is not None and deadline.remaining() <= 0:
                raise Stopped(OUT_OF_TIME)
            limit_to(connection, deadline)
            found += user_children_dao.count(connection, child, user, at_most - found)
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
    except (DBAPIError, Stopped, StillThere, LeaseLost):
        """Noted on the row, or another's by now."""


def run(user_id: UUID, task_id: str | None) -> bool:
    """Do what a wake-up asks for: a stretch of the deletion, or its confirmation. Returns whether to send another.

    Raises whatever stopped it, after giving the lease back and noting the error on the row.
    """
    settings = tools().settings
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        if asked.is_blocked(connection, ACCOUNTS):
            return False  # the relay sends it again
        lease = _claim(connection, settings, user_id, task_id, now)
        if lease is not None and user_deletions_dao.is_export_pending(connection, user_id, now):
            due_at = now + timedelta(seconds=settings.account_retry_seconds)
            leases.give_back(connection, lease, due_at=due_at, state="requested", reason=WAITS_FOR_EXPORT)
            return False
    if lease is None:
        confirmation.confirm(user_id, mail.send)
        return False
    return _do(Work(settings, user_id, lease, Deadline(settings.step_budget_seconds), task_id=task_id))


def _claim(
    connection: Connection, settings: Settings, user_id: UUID, task_id: str | None, now: datetime
) -> Lease | None:
    taken = leases.acquire(
        connection,
        DELETIONS,
        user_id,
        holder=task_id,
        now=now,
        seconds=settings.lease_seconds,
        retry=BackOff(settings.account_retry_seconds),
    )
    return None if taken is None else taken[0]


def _do(the_work: Work) -> bool:
    """Work, and give the lease back with what came of it. Returns whether there is more to do now."""
    user_id = str(the_work.user_id)
    began = time.monotonic()
    try:
        outcome = work(the_work)
    except LeaseLost:
        log.warning("lease-lost", user_id=user_id)
        return False
    except stops.Held as held:
        retry_at = clock.now() + timedelta(seconds=LONGEST_BACK_OFF_SECONDS)  # whoever lifts a hold makes it due
        _release(the_work, "running", reason=str(held), due_at=retry_at)
        log.info("deletion-held", user_id=user_id, why=str(held))
        return False
    except UnplannedReference as error:
        # Without the word that nothing was deleted: an earlier stretch may have.
        retry_at = clock.now() + timedelta(seconds=UNTIL_PLANNED_SECONDS)
        _release(the_work, "running", reason=error.why, due_at=retry_at)
        log.error("deletion-blocked", user_id=user_id, error=error.code, reason=error.why)
        return False
    except (NotMarked, OnlyManager) as error:
        _release(the_work, "blocked", reason=str(error))
        log.error("deletion-blocked", user_id=user_id, error=error.code, reason=str(error))
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
        task_id=the_work.task_id,
        outcome=outcome.value,
        rows=the_work.done.rows,
        files=the_work.done.files,
        seconds=round(time.monotonic() - began, 3),
    )
    if outcome is Outcome.OUT_OF_TIME:
        _release(the_work, "running", reason=the_work.done.reason)
    else:
        log.info("account-deleted", user_id=user_id)
    return True


def _release(the_work: Work, state: str, *, reason: str | None = None, due_at: datetime | None = None) -> None:
    """A request sends no message: what it leaves, the relay sends; and so it does what is due only at `due_at`."""
    now = clock.now()
    sent_at = None if the_work.in_request or due_at else now
    with db.transaction() as connection:
        leases.give_back(connection, the_work.lease, due_at=due_at or now, sent_at=sent_at, state=state, reason=reason)


def _give_back(the_work: Work, error: Exception) -> None:
    """Past the setting's attempts it needs a person, and is tried all the same."""
    settings, attempts = the_work.settings, the_work.lease.attempts if the_work.done.is_idle else 0
    due_at = clock.now() + BackOff(settings.account_retry_seconds).after(attempts)
    with db.transaction() as connection:
        leases.give_back(connection, the_work.lease, failed=True, due_at=due_at, reason=_named(error))
    log.error(
        "deletion-failed",
        user_id=str(the_work.user_id),
        attempts=attempts,
        error=_named(error),
        needs_person=attempts >= settings.deferral_attempts,
        next_attempt=due_at.isoformat(),
    )


def _named(error: Exception) -> str:
    """The error without any value, which could be personal data."""
    match error:
        case DBAPIError():
            return str(refusal_of(error))
        case StillThere():
            return str(error)
        case Stopped():
            return error.reason
        case BucketRefuses():
            return error.code
    return type(error).__name__


def take_due() -> list[UUID]:
    """The users for whom a message must be sent now: captured, due again, or without worker or message.

    Users whose mark nobody captured, since it came with a restore, say, are captured here. None while the pipeline is
    paused.
    """
    settings = tools().settings
    resend_seconds = settings.dispatch_every_seconds
    with db.transaction() as connection:
        found = user_deletions_dao.missed(connection, WAKES_PER_LOOK)
        missed = act_on_each(connection, found, user_deletions_dao.capture, "the capture of a mark")
    if missed:
        log.warning("marks-found-uncaptured", users=len(missed))
    with db.transaction() as connection:
        if stops.is_paused(connection) or asked.is_blocked(connection, ACCOUNTS):
            return []
        now = db.bounded_now(connection, clock.now())
        return [
            row.user_id
            for table in (DELETIONS, CONFIRMATIONS)
            for row in leases.take_due(
                connection, table, now=now, resend_seconds=resend_seconds, at_most=WAKES_PER_LOOK
            )
        ]


def find(user_id: UUID) -> Record | None:
    """The record of an account's deletion, if there is one."""
    with db.transaction(read_only=True) as connection:
        return user_deletions_dao.find(connection, user_id)


def purge_records() -> bool:
    """Forget deletions that were complete for long, a batch of them. Returns whether there may be more.

    Those of users on hold stay, and all of them while the pipeline is paused.
    """
    with db.transaction() as connection:
        if stops.stopped(connection, stops.turn(turns_dao.RECORDS)) or asked.is_blocked(connection, ACCOUNTS):
            return False
        now = db.bounded_now(connection, clock.now())
        before = now - timedelta(days=tools().settings.deletion_records_kept_days)
        past = user_deletions_dao.past(connection, before, RECORDS_PER_PURGE)
        purged = act_on_each(connection, past, user_deletions_dao.forget, "the end of a deletion's record")
    if purged:
        log.info("deletion-records-purged", records=len(purged))
    return len(purged) == RECORDS_PER_PURGE
