"""At most EMAILS_PER_SECOND emails in any second, over all processes of the product together; docs/adr/0018.

A slot is reserved in one short transaction on one row, and waited for outside of it. One that is not used in time, by
a process that was stopped or slowed down, is void: used late it would come on top of the slots of that later second.
"""

import time
from dataclasses import dataclass

from psycopg2 import errors
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.dao import email_rate_dao
from app.db import db

TOLERANCE_SECONDS = 0.1
"""How long a slot can be used. A database that answers more slowly than this gives none."""
SPREAD_SECONDS = 0.15
"""By so much may emails move together between their slots and the moment when SES counts them."""
LONGEST_WAIT_SECONDS = 15.0
STATEMENT_SECONDS = 5
TOOK_TOO_LONG = (errors.LockNotAvailable, errors.QueryCanceled)


class NoSlot(RuntimeError):
    """No slot was to be had in LONGEST_WAIT_SECONDS: the email is due later."""


@dataclass(frozen=True)
class Slot:
    """When an email may be sent, by this process's monotonic clock."""

    begins: float
    ends: float


def seconds_apart(emails_per_second: float) -> float:
    """Between two slots, so that SES counts no more than the limit in any second, late as some emails may come."""
    return (1 + SPREAD_SECONDS) / emails_per_second


def take_turn(settings: Settings) -> None:
    """Return in a slot of this caller's own. Raises NoSlot; never call it inside of a transaction."""
    give_up_at = time.monotonic() + LONGEST_WAIT_SECONDS
    while (left := give_up_at - time.monotonic()) > 0:
        slot = reserve(settings, left)
        time.sleep(max(0.0, slot.begins - time.monotonic()))
        if time.monotonic() <= slot.ends:
            return
    raise NoSlot(NoSlot.__doc__)


def reserve(settings: Settings, longest_wait_seconds: float) -> Slot:
    """The next free slot, which from then on nobody else has. Raises NoSlot if it is further away than that.

    Also when too many stand in line for the row, or somebody holds it: that says nothing of the email.
    """
    try:
        return _reserve(settings, longest_wait_seconds)
    except DBAPIError as error:
        if isinstance(error.orig, TOOK_TOO_LONG):
            raise NoSlot(NoSlot.__doc__) from None
        raise


def _reserve(settings: Settings, longest_wait_seconds: float) -> Slot:
    with db.transaction(statement_seconds=STATEMENT_SECONDS, lock_seconds=STATEMENT_SECONDS) as connection:
        email_rate_dao.lock(connection)
        asked = time.monotonic()  # the database reads its clock after this, and before its answer is here
        wait = email_rate_dao.reserve(
            connection,
            seconds_apart=seconds_apart(settings.emails_per_second),
            longest_wait_seconds=longest_wait_seconds,
        )
        answered = time.monotonic()
    if wait is None:
        raise NoSlot(NoSlot.__doc__)
    return Slot(begins=answered + wait, ends=asked + wait + TOLERANCE_SECONDS)
