"""The deletion of accounts. A message does one stretch of one account's deletion, and sends the next.

What is to be done is in `user_deletions`: a message that is lost, late or delivered twice does no harm.
"""

from typing import Any
from uuid import UUID, uuid4

import structlog
from kombu.exceptions import OperationalError

from app import clock
from app.accounts import deletion, login_limits
from app.celery import celery
from app.dao.heartbeats_dao import ACCOUNTS
from app.errors import BadArgument
from app.retention import heartbeat

log = structlog.get_logger(__name__)


@celery.task(name="delete-user-account", bind=True)
def delete_user_account(self: Any, user_id: UUID | str) -> None:
    """Go on with the deletion of an account that is marked; send the next message while there is more to do."""
    checked = _checked_id(user_id)
    # A broker that hands a dead worker's message on keeps its id, by which the lease is known.
    token = uuid4() if self.request.called_directly else UUID(self.request.id)
    if deletion.run(checked, token):
        _send(checked)


@celery.task(name="relay-user-deletions")
def relay_user_deletions() -> None:
    """Send a message for each deletion that was captured, is due again, or has lost its message or its worker."""
    for user_id in deletion.take_due():
        _send(user_id)
    heartbeat.relay_ran(ACCOUNTS)


@celery.task(name="purge-account-records")
def purge_account_records() -> None:
    """Forget a batch of old deletions and of old attempts to log in; send the next message while there are more."""
    are_more = [deletion.purge_records(), login_limits.purge(clock.now())]
    if any(are_more):
        _apply(purge_account_records, "the next hour")


def _send(user_id: UUID) -> None:
    """Should the broker be away, the row says what is due, and the relay sends it later."""
    _apply(delete_user_account, "the relay sends it again", args=[str(user_id)])


def _apply(task: Any, mend: str, **message: Any) -> None:
    try:
        task.apply_async(**message)
    except OperationalError as error:
        log.error("message-not-sent", task=task.name, error=type(error).__name__, mend=mend)


def _checked_id(user_id: UUID | str) -> UUID:
    try:
        return user_id if isinstance(user_id, UUID) else UUID(user_id)
    except (ValueError, AttributeError, TypeError):
        raise BadArgument("{} is not a user id; it must be a UUID", user_id) from None
