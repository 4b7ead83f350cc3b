"""The night's tasks. They translate: check the arguments, call one function, send what it asks for.

Each is also a plain function for `flask shell`; called so, the two deleting ones do one step and return how many
rows it removed.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import structlog
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError

from app import clock
from app.celery import celery
from app.dao.chains_dao import REAL, TEST, Wake
from app.models.types import EMAIL, LETTER, SMS
from app.retention import (
    chains,
    delete_test_notifications,
    move_notifications_to_notification_history,
    nightly,
)
from app.retention.steps import checked_id, checked_type

log = structlog.get_logger(__name__)


@celery.task(name="delete-notifications-older-than-retention")
def delete_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Start a night: one task per type. `night` is a local date, tonight's by default."""
    started = nightly.start_run(_night(night))
    for task in BY_TYPE.values():
        _send(task, kwargs={"night": started.isoformat()})


@celery.task(name="delete-email-notifications")
def delete_email_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue emails its chains."""
    send_wakes(nightly.fan_out(EMAIL, _night(night)))


@celery.task(name="delete-sms-notifications")
def delete_sms_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue text messages its chains."""
    send_wakes(nightly.fan_out(SMS, _night(night)))


@celery.task(name="delete-letter-notifications")
def delete_letter_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue letters its chains."""
    send_wakes(nightly.fan_out(LETTER, _night(night)))


BY_TYPE = {
    EMAIL: delete_email_notifications_older_than_retention,
    SMS: delete_sms_notifications_older_than_retention,
    LETTER: delete_letter_notifications_older_than_retention,
}


@celery.task(name="delete-notifications-for-service-and-type", bind=True)
def delete_notifications_for_service_and_type(
    self: Any,
    service_id: UUID | str,
    notification_type: str,
    datetime_to_delete_before: datetime | str,
    chain: int | None = None,
    step: int | None = None,
) -> int | None:
    """One step: move a batch of real notifications to history, and send what comes next.

    Without a chain: a message gets one for tonight; a plain call does one step and returns the rows moved.
    """
    if self.request.called_directly and chain is None:
        return move_notifications_to_notification_history(notification_type, service_id, datetime_to_delete_before)
    _step(self, service_id, notification_type, datetime_to_delete_before, REAL, chain, step)
    return None


@celery.task(name="delete-test-notifications-for-service-and-type", bind=True)
def delete_test_notifications_for_service_and_type(
    self: Any,
    service_id: UUID | str,
    notification_type: str,
    datetime_to_delete_before: datetime | str,
    chain: int | None = None,
    step: int | None = None,
) -> int | None:
    """One step: delete a batch of test notifications, and send what comes next.

    Without a chain, a plain call does one step and returns the rows deleted; a message is as good as one for the
    real notifications, whose chain starts that of the test ones when it has nothing left.
    """
    if self.request.called_directly and chain is None:
        return delete_test_notifications(notification_type, service_id, datetime_to_delete_before)
    _step(self, service_id, notification_type, datetime_to_delete_before, REAL, chain, step)
    return None


@celery.task(name="dispatch-retention")
def dispatch_retention() -> None:
    """Wake chains that are due or have lost their worker or their message."""
    wakes, types = nightly.dispatch()
    for night, notification_type in types:
        _send(BY_TYPE[notification_type], kwargs={"night": night.isoformat()})
    send_wakes(wakes)


def send_wakes(wakes: Iterable[Wake]) -> None:
    """Send a message for each wake-up."""
    for wake in wakes:
        is_test = wake.stage == TEST
        _send(
            delete_test_notifications_for_service_and_type if is_test else delete_notifications_for_service_and_type,
            args=[str(wake.service_id), wake.notification_type, wake.cutoff.isoformat()],
            kwargs={"chain": wake.chain, "step": wake.step},
        )


def _step(
    task: Any,
    service_id: UUID | str,
    notification_type: str,
    cutoff: datetime | str,
    stage: str,
    chain: int | None,
    step: int | None,
) -> None:
    if chain is not None and step is not None:
        send_wakes(chains.run_step(chain, step, task.request.id))
        return
    try:
        wakes = chains.adopt(checked_type(notification_type), checked_id(service_id), clock.as_utc(cutoff), stage)
    except ValueError as error:
        log.error("message-refused", task=task.name, task_id=task.request.id, why=str(error))
        raise Ignore from None  # acknowledged: it will make no more sense the next time
    send_wakes(wakes)


def _send(task: Any, **message: Any) -> None:
    """Send a message. Should the broker be away, the rows say what is due, and the dispatcher sends it later."""
    try:
        task.apply_async(**message)
    except OperationalError as error:
        log.error(
            "message-not-sent",
            task=task.name,
            error=type(error).__name__,
            mend="the dispatcher sends it again",
        )


def _night(night: str | date | None) -> date | None:
    return date.fromisoformat(night) if isinstance(night, str) else night
