"""The deletion of accounts. A message does one stretch of one account's deletion, and sends the next.

What is to be done is in `user_deletions`: a message that is lost, late or delivered twice does no harm.
"""

from typing import Any
from uuid import UUID

from app import clock
from app.accounts import deletion, export, inactivity, login_limits
from app.celery import celery, inactivity_tasks
from app.celery.sending import send
from app.dao.heartbeats_dao import ACCOUNTS
from app.errors import BadArgument
from app.retention import heartbeat
from app.state import asked, findings

THE_RELAY = "the relay sends it again"


@celery.task(name="delete-user-account", bind=True)
def delete_user_account(self: Any, user_id: UUID | str) -> None:
    """Go on with the deletion of an account that is marked; send the next message while there is more to do."""
    checked = _checked_id(user_id)
    # A broker that hands a dead worker's message on keeps its id, by which the lease is known.
    if deletion.run(checked, None if self.request.called_directly else self.request.id):
        _send(checked)


@celery.task(name="relay-user-deletions")
def relay_user_deletions() -> None:
    """Send a message for each deletion that was captured, is due again, or has lost its message or its worker; and for
    each sweep over users that is due again, was accepted by an operator, or has lost its message or its worker.
    """
    for user_id in deletion.take_due():
        if not _send(user_id):
            break  # each refusal may take seconds
    for sweep in inactivity.take_due():
        send(inactivity_tasks.OF_SWEEP[sweep], THE_RELAY)
    heartbeat.relay_ran(ACCOUNTS)
    asked.note([findings.ACCOUNTS, findings.DELETIONS], clock.now())


@celery.task(name="purge-account-records")
def purge_account_records() -> None:
    """Forget a batch of old deletions, exports and attempts to log in; send the next message while there are more."""
    are_more = [deletion.purge_records(), export.purge_records(), login_limits.purge(clock.now())]
    if any(are_more):
        send(purge_account_records, "the next hour")


def _send(user_id: UUID) -> bool:
    return send(delete_user_account, THE_RELAY, args=[str(user_id)])


def _checked_id(user_id: UUID | str) -> UUID:
    try:
        return user_id if isinstance(user_id, UUID) else UUID(user_id)
    except (ValueError, AttributeError, TypeError):
        raise BadArgument("{} is not a user id; it must be a UUID", user_id) from None
