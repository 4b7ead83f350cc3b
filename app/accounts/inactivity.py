"""Users who do not visit: warned once, and marked for deletion when the notice is over and they have not come back.
Accounts that were never completed are marked without a warning.

A warning is claimed on the user's row, then sent, then confirmed there. A worker that is killed in between leaves the
claim, which runs out: the warning is sent again, so that each such kill costs at most one email too many. Attempts are
counted when they are claimed, so that not even that can go on for ever: after so many no more is sent. Nobody is marked
whose warning SES did not take.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app import clock
from app.accounts import brake, mail, texts
from app.accounts.brake import Blocked
from app.accounts.errors import OnlyManager, UnplannedReference
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.requests import mark_for_deletion
from app.accounts.sweeps import BLOCKED, UNPLANNED, Page, limits, run_page
from app.accounts.tools import tools
from app.config import Settings
from app.dao import inactive_users_dao, turns_dao, user_sweeps_dao
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN, Claim, Position
from app.dao.user_sweeps_dao import SWEEPS, UserSweep
from app.db import db
from app.engine import leases, stops
from app.engine.leases import BackOff, Lease
from app.state import asked
from app.state.findings import ACCOUNTS, DELETIONS

log = structlog.get_logger(__name__)

OWN = stops.turn(turns_dao.INACTIVITY)
"""What a hold waits for that is placed while a user is being warned or marked."""
BETWEEN_ATTEMPTS = timedelta(hours=12)
"""A failed warning is tried again by the next day's sweep, not by a second message of the same day's."""
PRECONDITION = "precondition"
"""Something is not as the sweeps need it; the next night tries again."""
WARNED, REFUSED, CAME_BACK = "warned", "refused", "came-back"
MARKED, MARKED_ALREADY, ONLY_MANAGER = "marked", "marked-already", "only-manager"
NEEDS = {WARN: (ACCOUNTS,), MARK: (ACCOUNTS, DELETIONS), NEVER_COMPLETED: (ACCOUNTS, DELETIONS)}
"""The policies that must not be blocked."""
REQUESTED_BY = {MARK: "inactivity", NEVER_COMPLETED: "zombie-sweep"}

MOST_PAUSES = 40
"""Pages in a row that came to nothing for some users: after so many the rest waits for the next day."""
SWEEPS_PER_LOOK = 10

Send = Callable[[str, Message], None]
"""As `app.accounts.mail.send`."""


def run(sweep: str, task_id: str | None) -> bool:
    """Do a page of tonight's sweep, from where it has come. Returns whether to send another message at once.

    Nothing is done while somebody else does, or where the sweep has ended; by hand, without a task, it begins anew
    then. Raises whatever stopped it.
    """
    settings = tools().settings
    if _kept_from(sweep) is not None:
        return False
    of, retry = brake.begin(settings, sweep), BackOff(settings.account_retry_seconds)
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        if task_id is None:
            user_sweeps_dao.reopen(connection, of, now)
        seconds = settings.lease_seconds
        taken = leases.acquire(connection, SWEEPS, of.id, holder=task_id, now=now, seconds=seconds, retry=retry)
    if taken is None:
        return False
    lease, row = taken
    after = None if row["seen_to"] is None else Position(row["seen_to"], row["seen_to_id"])
    try:
        page = warn_page(after, pauses=row["pauses"]) if sweep == WARN else mark_page(sweep, after, row["pauses"])
    except Exception:
        with db.transaction() as connection:
            leases.give_back(connection, lease, failed=True, due_at=clock.now() + retry.after(lease.attempts))
        raise
    return _note(settings, sweep, lease, page, row["pauses"])


def _note(settings: Settings, sweep: str, lease: Lease, page: Page, pauses_before: int) -> bool:
    """How far the sweep has come, and when it goes on. Returns whether that is now, and it is not blocked."""
    pauses = pauses_before + 1 if page.pause else 0
    is_over = page.next is None or pauses > MOST_PAUSES
    if pauses > MOST_PAUSES:
        log.error("sweep-put-off", sweep=sweep, fix="see what failed for these users; the next day's sweep goes on")
    now = clock.now()
    with db.transaction() as connection:
        leases.give_back(
            connection,
            lease,
            due_at=now + timedelta(seconds=settings.account_retry_seconds) if page.pause else now,
            sent_at=None if page.pause else now,
            seen_to=page.next and page.next.at,
            seen_to_id=page.next and page.next.user_id,
            pauses=pauses,
            ended_at=now if is_over else None,
        )
    return not is_over and not page.pause


def take_due() -> list[str]:
    """The sweeps for which a message must be sent now: due again, accepted, or without worker or message."""
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        resend_seconds = tools().settings.dispatch_every_seconds
        due = leases.take_due(connection, SWEEPS, now=now, resend_seconds=resend_seconds, at_most=SWEEPS_PER_LOOK)
    return [row.sweep for row in due]


def warn_page(after: Position | None = None, send: Send = mail.send, pauses: int = 0) -> Page:
    """One step of the daily warnings, after so many pauses. Exports and confirmations share its emails' rate."""
    return _page(WARN, lambda user_id, of: warn(user_id, send, of), after, pauses)


def mark_page(sweep: str, after: Position | None = None, pauses: int = 0) -> Page:
    """One step of the daily marks: MARK for inactive users, NEVER_COMPLETED for accounts that never began."""
    return _page(sweep, lambda user_id, of: mark(sweep, user_id, of), after, pauses)


def _page(sweep: str, act: Callable[[UUID, UserSweep], str], after: Position | None, pauses: int) -> Page:
    settings = tools().settings
    if reason := _kept_from(sweep):
        return Page(Counter([reason]))
    of = brake.begin(settings, sweep)
    if of.blocked_by is not None:
        return Page(Counter([BLOCKED]))
    page = run_page(settings, sweep, lambda user_id: act(user_id, of), after, pauses)
    if page.outcomes[BLOCKED]:
        brake.block_if_spent(settings, of)
    return page


def _kept_from(sweep: str) -> str | None:
    """Why the sweep may not begin, in a word, if it may not."""
    with db.transaction(read_only=True) as connection:
        if stops.is_paused(connection):
            return stops.PAUSED
        return PRECONDITION if any(asked.is_blocked(connection, policy) for policy in NEEDS[sweep]) else None


def warn(user_id: UUID, send: Send = mail.send, of: UserSweep | None = None) -> str:
    """Warn the user, unless something keeps the user from it by now. Raises MailUnavailable; the outcome in a word."""
    settings = tools().settings
    of = of or brake.begin(settings, WARN)
    try:
        with db.transaction() as connection:
            stops.require_none(connection, OWN, users=[user_id])
            now = db.bounded_now(connection, clock.now())
            found = limits(settings, WARN, now)
            claimed = inactive_users_dao.claim(connection, found, user_id, now + BETWEEN_ATTEMPTS)
            if claimed is None:
                return CAME_BACK
            brake.take(connection, of)
    except Blocked:
        return BLOCKED
    try:
        send(claimed.email_address, _warning(settings, claimed))
    except MailUnavailable as error:
        with db.transaction() as connection:
            stops.require_none(connection, OWN, users=[user_id])
            now = clock.now()
            inactive_users_dao.release(connection, claimed, now)
            user_sweeps_dao.give_back(connection, of, error.code, now)
        raise
    except MailRefused as refusal:
        return _refused(settings, claimed, refusal.code, of)
    with db.transaction() as connection:
        stops.require_none(connection, OWN, users=[user_id])
        is_absent = inactive_users_dao.confirm(connection, claimed, clock.now())
        user_sweeps_dao.email_taken(connection, of)
    return WARNED if is_absent else CAME_BACK


def _refused(settings: Settings, claimed: Claim, code: str, of: UserSweep) -> str:
    with db.transaction() as connection:
        stops.require_none(connection, OWN, users=[claimed.user_id])
        inactive_users_dao.note_failure(connection, claimed, code)
        brake.count_refusal(connection, settings, of, clock.now())
    log.warning("warning-refused", user_id=str(claimed.user_id), attempt=claimed.attempt, error=code)
    return REFUSED


def _warning(settings: Settings, claimed: Claim) -> Message:
    deadline = marked_at(settings, claimed.seen_at, claimed.claimed_at)
    return texts.inactivity_warning(settings, name=claimed.name, last_seen=claimed.seen_at, deadline=deadline)


def marked_at(settings: Settings, seen_at: datetime, warned_at: datetime) -> datetime:
    """The earliest time at which a user who was warned then can be marked."""
    notice_ends = warned_at + timedelta(days=settings.inactive_notice_days)
    return max(notice_ends, seen_at + timedelta(days=settings.inactive_delete_days))


def mark(sweep: str, user_id: UUID, of: UserSweep | None = None) -> str:
    """Mark the account, unless something keeps it by now. Returns the outcome in a word."""
    settings = tools().settings
    of = of or brake.begin(settings, sweep)
    try:
        with db.transaction() as connection:
            stops.require_none(connection, OWN, users=[user_id])
            now = db.bounded_now(connection, clock.now())
            if not inactive_users_dao.lock(connection, sweep, limits(settings, sweep, now), user_id):
                return CAME_BACK
            brake.take(connection, of)
            is_new = mark_for_deletion(connection, user_id, by=REQUESTED_BY[sweep], by_id=None, now=now)
    except Blocked:
        return BLOCKED
    except UnplannedReference as refusal:
        log.error("sweep-refused", sweep=sweep, error=refusal.code, reason=str(refusal))
        return UNPLANNED
    except OnlyManager as refusal:
        services = [str(service_id) for service_id in refusal.service_ids]
        log.warning("only-manager-kept", sweep=sweep, user_id=str(user_id), service_ids=services)
        return ONLY_MANAGER
    return MARKED if is_new else MARKED_ALREADY
