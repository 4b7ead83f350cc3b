"""The email that says that an account is deleted, to an address that is forgotten once it is sent, or given up."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from app import clock
from app.accounts.backoff import next_attempt
from app.accounts.mail import MailRefused, MailUnavailable, Message
from app.accounts.tools import tools
from app.dao import user_deletions_dao
from app.db import db

log = structlog.get_logger(__name__)

ATTEMPTS = 10
"""So often it is tried, over some four hours, while no email can be sent: what is deleted is not kept for an email."""

TEXT = "Your account and everything in it have been deleted, as was asked. There is nothing left for you to do."
COMPLETE = Message("Your account has been deleted", TEXT + "\n", f"<p>{TEXT}</p>\n")

Send = Callable[[str, Message], None]
"""As `app.accounts.mail.send`."""


def confirm(user_id: UUID, send: Send) -> None:
    """Send the confirmation of a deletion that is complete, unless it was sent, is not due, or is being sent."""
    settings = tools().settings
    now, token = clock.now(), uuid4()
    until = now + timedelta(seconds=settings.lease_seconds)
    with db.transaction() as connection:
        claimed = user_deletions_dao.claim_confirmation(connection, user_id, token, now=now, until=until)
    if claimed is None:
        return
    address, attempt = claimed
    failure, is_over = None, True
    if attempt > ATTEMPTS:
        failure = "WorkerLost"  # each attempt was counted, and none came back
    else:
        try:
            send(address, COMPLETE)
        except MailUnavailable as error:
            failure, is_over = error.code, attempt == ATTEMPTS
        except MailRefused as error:
            failure, is_over = error.code, error.is_final or attempt == ATTEMPTS
    now = clock.now()
    with db.transaction() as connection:
        user_deletions_dao.close_confirmation(
            connection,
            user_id,
            token,
            is_over=is_over,
            due_at=now if is_over else next_attempt(settings, now, attempt),
            confirmed_at=None if failure else now,
            failure=failure,
        )
    log.info("deletion-confirmed" if failure is None else "confirmation-failed", user_id=str(user_id), error=failure)
