"""The night's tasks. They translate: check the arguments, call one function, send what it asks for.

Each is also a plain function for `flask shell`; called so, the two deleting ones do one step and return how many
rows it removed.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import structlog

from app import broker, clock
from app.celery import celery
from app.celery.sending import send
from app.dao.chains_dao import TEST, Wake
from app.dao.heartbeats_dao import CHAINS
from app.models.types import EMAIL, LETTER, SMS
from app.retention import (
    chains,
    delete_test_notifications,
    heartbeat,
    move_notifications_to_notification_history,
    nightly,
)
from app.retention.arguments import (
    checked_cutoff,
    checked_flag,
    checked_id,
    checked_night,
    checked_number,
    checked_type,
)
from app.retention.tools import tools
from app.state import asked
from app.state.findings import OF_NOTIFICATIONS

log = structlog.get_logger(__name__)

SECONDS_TO_ANSWER = 3


@celery.task(name="delete-notifications-older-than-retention")
def delete_notifications_older_than_retention(night: str | date | None = None, once: bool = False) -> None:
    """Start a night: one task per type. `night` is a local date, tonight's by default.

    Beat sends it with `once`: a second beat's message, or a repeated one, finds the night begun and does nothing.
    """
    started = nightly.start_run(checked_night(night, tools().settings), once=checked_flag("once", once))
    if started is None:
        log.info("night-had-begun")
        return
    for notification_type in tools().notification_types:
        _send(BY_TYPE[notification_type], kwargs={"night": started.isoformat()})


@celery.task(name="delete-email-notifications")
def delete_email_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue emails its chains."""
    send_wakes(nightly.fan_out(EMAIL, checked_night(night, tools().settings)))


@celery.task(name="delete-sms-notifications")
def delete_sms_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue text messages its chains."""
    send_wakes(nightly.fan_out(SMS, checked_night(night, tools().settings)))


@celery.task(name="delete-letter-notifications")
def delete_letter_notifications_older_than_retention(night: str | date | None = None) -> None:
    """Give every service with overdue letters its chains."""
    send_wakes(nightly.fan_out(LETTER, checked_night(night, tools().settings)))


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
    force: bool = False,
) -> int | None:
    """One step: move a batch of real notifications to history, and send what comes next.

    Without a chain: a message gets one for tonight; a plain call does one step and returns the rows moved. A cut-off
    after the start of today is refused unless forced; retentions hold all the same.
    """
    if self.request.called_directly and chain is None:
        before = checked_cutoff(datetime_to_delete_before, tools().settings, force=force)
        return move_notifications_to_notification_history(notification_type, service_id, before)
    _step(self, service_id, notification_type, datetime_to_delete_before, chain, step, force)
    return None


@celery.task(name="delete-test-notifications-for-service-and-type", bind=True)
def delete_test_notifications_for_service_and_type(
    self: Any,
    service_id: UUID | str,
    notification_type: str,
    datetime_to_delete_before: datetime | str,
    chain: int | None = None,
    step: int | None = None,
    force: bool = False,
) -> int | None:
    """One step: delete a batch of test notifications, and send what comes next.

    Without a chain, a plain call does one step and returns the rows deleted; a message is as good as one for the
    real notifications, whose chain starts that of the test ones when it has nothing left.
    """
    if self.request.called_directly and chain is None:
        before = checked_cutoff(datetime_to_delete_before, tools().settings, force=force)
        return delete_test_notifications(notification_type, service_id, before)
    _step(self, service_id, notification_type, datetime_to_delete_before, chain, step, force)
    return None


@celery.task(name="sweep-notifications", bind=True)
def sweep_notifications(self: Any, chain: int, step: int) -> None:
    """One step of a chain that is for many services, and send what comes next."""
    send_wakes(chains.run_step(checked_number("chain", chain), checked_number("step", step), self.request.id))


@celery.task(name="dispatch-retention")
def dispatch_retention() -> None:
    """Wake chains that are due or have lost their worker or their message."""
    wakes, types = nightly.dispatch(messages_wait=_messages_wait())
    for night, notification_type in types:
        _send(BY_TYPE[notification_type], kwargs={"night": night.isoformat()})
    send_wakes(wakes)
    heartbeat.relay_ran(CHAINS)
    heartbeat.fold()
    asked.note(OF_NOTIFICATIONS, clock.now())


def _messages_wait() -> bool:
    """Whether the night's queue has messages that no worker has taken. A broker that does not say: no."""
    settings = tools().settings
    try:
        return broker.queue_depths(settings, SECONDS_TO_ANSWER)[settings.queue_nightly] > 0
    except broker.BrokerAway:
        return False


@celery.task(name="catch-up-missed-night")
def catch_up_missed_night() -> None:
    """Start the last night if it was missed. Two beats, or a night that starts meanwhile, do no harm."""
    if night := nightly.missed_night():
        log.warning("night-was-missed", night=night.isoformat())
        delete_notifications_older_than_retention(night, once=True)


def send_wakes(wakes: Iterable[Wake]) -> bool:
    """Send a message for each wake-up until the broker does not take one: each refusal may take seconds.

    Returns whether it took all of them.
    """
    return all(_send_wake(wake) for wake in wakes)


def _send_wake(wake: Wake) -> bool:
    which = {"chain": wake.chain, "step": wake.step}
    if wake.service_id is None:
        return _send(sweep_notifications, kwargs=which)
    is_test = wake.stage == TEST
    return _send(
        delete_test_notifications_for_service_and_type if is_test else delete_notifications_for_service_and_type,
        args=[str(wake.service_id), wake.notification_type, wake.cutoff.isoformat()],
        kwargs=which,
    )


def _step(
    task: Any,
    service_id: UUID | str,
    notification_type: str,
    cutoff: datetime | str,
    chain: int | None,
    step: int | None,
    force: bool,
) -> None:
    if chain is not None or step is not None:
        send_wakes(chains.run_step(checked_number("chain", chain), checked_number("step", step), task.request.id))
        return
    before = checked_cutoff(cutoff, tools().settings, force=force)
    send_wakes(
        chains.adopt(checked_type(notification_type, tools().notification_types), checked_id(service_id), before)
    )


def _send(task: Any, **message: Any) -> bool:
    return send(task, "the dispatcher sends it again", **message)
