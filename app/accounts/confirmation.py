"""The email that says that an account is deleted, to an address that is forgotten once it is sent, or given up."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog

from app import clock
from app.accounts import texts
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from app.dao.user_deletions_dao import CONFIRMATIONS
from app.db import db
from app.engine import leases
from app.engine.leases import BackOff, LeaseLost

log = structlog.get_logger(__name__)

ATTEMPTS = 10
"""So often it is tried, over some four hours, while no email can be sent: what is deleted is not kept for an email."""

Send = Callable[[str, Message], None]
"""As `app.accounts.mail.send`."""


def confirm(user_id: UUID, send: Send) -> None:
    """Send the confirmation of a deletion that is complete, unless it was sent, is not due, or is being sent."""
    settings = tools().settings
    retry = BackOff(settings.account_retry_seconds)
    with db.transaction() as connection:
        now = db.bounded_now(connection, clock.now())
        taken = leases.acquire(connection, CONFIRMATIONS, user_id, now=now, seconds=settings.lease_seconds, retry=retry)
    if taken is None:
        return
    lease, row = taken
    failure, is_over = None, True
    if lease.attempts > ATTEMPTS:
        failure = "WorkerLost"  # each attempt was counted, and none came back
    else:
        try:
            send(row["confirmation_address"], texts.account_deleted(settings))
        except MailUnavailable as error:
            failure, is_over = error.code, lease.attempts == ATTEMPTS
        except MailRefused as error:
            failure = error.code
    now = clock.now()
    with suppress(LeaseLost), db.transaction() as connection:
        forgotten: dict[str, Any] = {"confirmation_address": None} if is_over else {}
        leases.give_back(
            connection,
            lease,
            failed=True,  # the attempts are told of
            due_at=now if is_over else now + retry.after(lease.attempts),
            confirmed_at=None if failure else now,
            confirmation_failure=failure,
            **forgotten,
        )
    log.info("deletion-confirmed" if failure is None else "confirmation-failed", user_id=str(user_id), error=failure)
