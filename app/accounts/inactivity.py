"""Users who do not visit: warned once, and marked for deletion when the notice is over and they have not come back.
Accounts that were never completed are marked without a warning.

A warning is claimed on the user's row, then sent, then confirmed there. A worker that is killed in between leaves the
claim, which runs out: the warning is sent again, so that each such kill costs at most one email too many, and nobody is
marked unwarned. Attempts are counted when they are claimed, so that not even that can go on for ever.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app import clock
from app.accounts import mail, texts
from app.accounts.errors import OnlyManager
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.requests import ISOLATION, mark_for_deletion
from app.accounts.sweeps import Page, limits, run_page
from app.accounts.tools import tools
from app.config import Settings
from app.dao import inactive_users_dao
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN, Claim, Position
from app.db import db

log = structlog.get_logger(__name__)

BETWEEN_ATTEMPTS = timedelta(hours=12)
"""A failed warning is tried again by the next day's sweep, not by a second message of the same day's."""
UNCONFIRMED = "Unconfirmed"
"""The failure of a user none of whose attempts came to an end."""
WARNED, REFUSED, GIVEN_UP, CAME_BACK = "warned", "refused", "given-up", "came-back"
MARKED, MARKED_ALREADY, ONLY_MANAGER = "marked", "marked-already", "only-manager"
REQUESTED_BY = {MARK: "inactivity", NEVER_COMPLETED: "zombie-sweep"}

Send = Callable[[str, Message], None]
"""As `app.accounts.mail.send`."""


def warn_page(after: Position | None = None, send: Send = mail.send, pauses: int = 0) -> Page:
    """One step of the daily warnings, after so many pauses. Exports and confirmations share its emails' rate."""
    return run_page(tools().settings, WARN, lambda user_id: warn(user_id, send), after, pauses)


def mark_page(sweep: str, after: Position | None = None, pauses: int = 0) -> Page:
    """One step of the daily marks: MARK for inactive users, NEVER_COMPLETED for accounts that never began."""
    return run_page(tools().settings, sweep, lambda user_id: mark(sweep, user_id), after, pauses)


def warn(user_id: UUID, send: Send = mail.send) -> str:
    """Warn the user, unless something keeps the user from it by now. Raises MailUnavailable; the outcome in a word."""
    settings = tools().settings
    now = clock.now()
    with db.transaction() as connection:
        found = limits(settings, WARN, now)
        claimed = inactive_users_dao.claim(connection, found, user_id, now + BETWEEN_ATTEMPTS)
    if claimed is None:
        return CAME_BACK
    if claimed.attempt > settings.inactive_warning_attempts:
        return _count_as_warned(claimed, UNCONFIRMED)
    try:
        send(claimed.email_address, _warning(settings, claimed, now))
    except MailUnavailable:
        with db.transaction() as connection:
            inactive_users_dao.release(connection, claimed, clock.now())
        raise
    except MailRefused as refusal:
        return _refused(settings, claimed, refusal.code)
    with db.transaction() as connection:
        is_absent = inactive_users_dao.confirm(connection, claimed, clock.now())
    return WARNED if is_absent else CAME_BACK


def _refused(settings: Settings, claimed: Claim, code: str) -> str:
    if claimed.attempt == settings.inactive_warning_attempts:
        return _count_as_warned(claimed, code)
    with db.transaction() as connection:
        inactive_users_dao.note_failure(connection, claimed, code)
    log.warning("warning-refused", user_id=str(claimed.user_id), attempt=claimed.attempt, error=code)
    return REFUSED


def _count_as_warned(claimed: Claim, failure: str) -> str:
    """The notice begins all the same: an address that takes nothing must not keep an account for ever."""
    with db.transaction() as connection:
        inactive_users_dao.confirm(connection, claimed, clock.now(), failure)
    log.warning("warning-given-up", user_id=str(claimed.user_id), attempts=claimed.attempt, error=failure)
    return GIVEN_UP


def _warning(settings: Settings, claimed: Claim, now: datetime) -> Message:
    return texts.inactivity_warning(
        name=claimed.name,
        last_seen=claimed.seen_at,
        deadline=marked_at(settings, claimed.seen_at, now),
        site_url=settings.site_url,
        zone=settings.zone,
    )


def marked_at(settings: Settings, seen_at: datetime, warned_at: datetime) -> datetime:
    """The earliest time at which a user who was warned then can be marked."""
    notice_ends = warned_at + timedelta(days=settings.inactive_notice_days)
    return max(notice_ends, seen_at + timedelta(days=settings.inactive_delete_days))


def mark(sweep: str, user_id: UUID) -> str:
    """Mark the account, unless something keeps it by now. Returns the outcome in a word."""
    now = clock.now()
    try:
        with db.transaction(isolation_level=ISOLATION) as connection:
            if not inactive_users_dao.lock(connection, sweep, limits(tools().settings, sweep, now), user_id):
                return CAME_BACK
            is_new = mark_for_deletion(connection, user_id, by=REQUESTED_BY[sweep], by_id=None, now=now)
    except OnlyManager as refusal:
        services = [str(service_id) for service_id in refusal.service_ids]
        log.warning("only-manager-kept", sweep=sweep, user_id=str(user_id), service_ids=services)
        return ONLY_MANAGER
    return MARKED if is_new else MARKED_ALREADY
