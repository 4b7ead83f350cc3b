"""The daily sweeps over users. A message does one page, and sends the next.

Each is also a plain call for `flask shell`; called so it does a page and sends the next. How far a sweep has come is in
its row: a message that is lost, late or delivered twice does no harm.
"""

from typing import Any

from app.accounts import inactivity
from app.celery import celery
from app.celery.sending import send
from app.dao.inactive_users_dao import MARK, NEVER_COMPLETED, WARN

THE_RELAY = "the relay sends it again"


@celery.task(name="warn-inactive-users", bind=True)
def warn_inactive_users(self: Any) -> None:
    """Warn a page of users who have not visited for long, from where tonight's sweep has come."""
    _page(self, WARN)


@celery.task(name="mark-inactive-users", bind=True)
def mark_inactive_users(self: Any) -> None:
    """Mark a page of users for deletion who were warned and have not visited."""
    _page(self, MARK)


@celery.task(name="mark-never-completed-accounts", bind=True)
def mark_never_completed_accounts(self: Any) -> None:
    """Mark a page of accounts for deletion that were never completed."""
    _page(self, NEVER_COMPLETED)


OF_SWEEP = {WARN: warn_inactive_users, MARK: mark_inactive_users, NEVER_COMPLETED: mark_never_completed_accounts}


def _page(task: Any, sweep: str) -> None:
    if inactivity.run(sweep, None if task.request.called_directly else task.request.id):
        send(OF_SWEEP[sweep], THE_RELAY)
