"""The daily sweeps over users. A message does one page, and sends the next.

Each is also a plain call for `flask shell`; called so it does a page and sends the next. A message that is lost costs a
day: the next day's sweep begins at the beginning, and finds whatever was left.
"""

from typing import Any
from uuid import UUID

import structlog
from kombu.exceptions import OperationalError

from app import clock
from app.accounts import inactivity
from app.accounts.sweeps import Page
from app.accounts.tools import tools
from app.celery import celery
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, Position
from app.errors import BadArgument

log = structlog.get_logger(__name__)

MOST_PAUSES = 40
"""Pages in a row that came to nothing for some users: after so many the rest waits for the next day."""


@celery.task(name="warn-inactive-users")
def warn_inactive_users(seen_at: str | None = None, user_id: str | None = None, pauses: int = 0) -> None:
    """Warn a page of users who have not visited for long, those after this last visit and id."""
    before = _checked_count(pauses)
    page = inactivity.warn_page(_position(seen_at, user_id), pauses=before)
    _send_next(warn_inactive_users, page, before, "see why no email can be sent; the next day's sweep goes on")


@celery.task(name="mark-inactive-users")
def mark_inactive_users(seen_at: str | None = None, user_id: str | None = None, pauses: int = 0) -> None:
    """Mark a page of users for deletion who were warned and have not visited."""
    before = _checked_count(pauses)
    page = inactivity.mark_page(MARK, _position(seen_at, user_id), before)
    _send_next(mark_inactive_users, page, before, "see what failed for these users; the next day's sweep goes on")


@celery.task(name="mark-never-completed-accounts")
def mark_never_completed_accounts(created_at: str | None = None, user_id: str | None = None, pauses: int = 0) -> None:
    """Mark a page of accounts for deletion that were never completed."""
    before = _checked_count(pauses)
    page = inactivity.mark_page(NEVER_COMPLETED, _position(created_at, user_id), before)
    _send_next(
        mark_never_completed_accounts, page, before, "see what failed for these users; the next day's sweep goes on"
    )


def _send_next(task: Any, page: Page, pauses_before: int, mend: str) -> None:
    if page.next is None:
        return
    pauses = pauses_before + 1 if page.pause else 0
    if pauses > MOST_PAUSES:
        log.error("sweep-put-off", task=task.name, mend=mend)
        return
    # Short enough for any broker: a message with a long countdown can be handed out more than once.
    countdown = tools().settings.account_retry_seconds if page.pause else None
    try:
        task.apply_async(
            args=[page.next.at.isoformat(), str(page.next.user_id)], kwargs={"pauses": pauses}, countdown=countdown
        )
    except OperationalError as error:
        log.error(
            "message-not-sent", task=task.name, error=type(error).__name__, mend="the next day's sweep finds the rest"
        )


def _position(at: str | None, user_id: str | None) -> Position | None:
    if at is None and user_id is None:
        return None
    try:
        return Position(clock.as_utc(_checked_text(at)), UUID(_checked_text(user_id)))
    except ValueError:
        raise BadArgument("{} and {} are not a time and a user id; give both, or neither", at, user_id) from None


def _checked_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _checked_count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise BadArgument("{} is not a number of pauses", value)
    return value
