"""Sending messages, for tasks and commands alike. What is due is in rows: a message that is not sent loses no work."""

from typing import Any

import structlog
from kombu.exceptions import OperationalError

from app import broker

log = structlog.get_logger(__name__)


def send(task: Any, fix: str, **message: Any) -> bool:
    """Send a message, given as `apply_async` takes it. Returns whether the broker took it.

    What it did not take is logged; `fix` says who sends it later.
    """
    try:
        task.apply_async(**message)
    except OperationalError as error:  # what kombu makes of every failure and refusal of a broker
        log.error("message-not-sent", task=task.name, error=broker.name_of(error), fix=fix)
        return False
    return True
