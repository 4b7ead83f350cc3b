"""The part of a worker that takes messages. It takes ours, refuses others, and obeys nobody else.

Celery's own would run whatever a message's headers make of it, and end with an error that it does not expect; the
message would go back and end the next worker. It would also tell other workers about itself through the broker, and
do what it is told there: shut down, take another queue, forget a task.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from celery import bootsteps
from celery.worker import consumer

from app import broker
from app.broker.transports import SEE_RUNBOOK
from app.celery import refusals
from app.celery.messages import BODY, ENVELOPE, UNKNOWN_TASK, Refused, headers_of
from app.celery.presence import Presence

log = structlog.get_logger(__name__)

OF_CELERY = "celery."
"""Its own tasks run any other, retry for ever, or log what they were given."""
SILENT = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class Consumer(consumer.Consumer):
    """Celery's consumer, behind a check of every message."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, worker_options=(worker_options or {}) | SILENT, **kwargs | {"task_events": False})

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """What is done with each message that arrives."""
        handle = super().create_task_handler(*args, **kwargs)
        longest_wait = timedelta(seconds=self.app.conf.longest_wait_seconds)
        ours = {name for name in self.app.tasks if not name.startswith(OF_CELERY)}

        def on_message(message: Any) -> None:
            try:
                message.headers = headers_of(message, ours, longest_wait)
                message.properties.pop("application_headers", None)  # of AMQP: the headers as they were sent
            except Refused as refused:
                self._refuse(message, refused.code)
            else:
                handle(message)

        return on_message

    def on_decode_error(self, message: Any, _error: Exception) -> None:
        """A message could not even be taken apart."""
        self._refuse(message, ENVELOPE)

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        """As if it had not been checked."""
        self._refuse(message, ENVELOPE)

    def on_unknown_task(self, _body: Any, message: Any, _error: Exception) -> None:
        """As if it had not been checked."""
        self._refuse(message, UNKNOWN_TASK)

    def on_invalid_task(self, _body: Any, message: Any, _error: Exception) -> None:
        """As if it had not been checked."""
        self._refuse(message, BODY)

    def on_connection_error_before_connected(self, error: Exception) -> None:
        """The broker refuses what a worker begins with."""
        self._wait_for(error)

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """The broker is away, or refuses to do its work: the worker connects anew, and goes on."""
        super().on_connection_error_after_connected(error)
        self._wait_for(error)

    def _wait_for(self, error: Exception) -> None:
        """Say so, and give a broker that refuses a moment: it would be connected at once, and refused at once."""
        log.error("broker-lost", error=broker.name_of(error), fix=SEE_RUNBOOK)
        if isinstance(error, self.channel_errors):
            time.sleep(SECONDS_BEFORE_A_BROKER_THAT_REFUSES_IS_ASKED_AGAIN)

    @staticmethod
    def _refuse(message: Any, code: str) -> None:
        refusals.refuse(code)
        message.ack()  # not rejected: SQS would hand a rejected one out again, RabbitMQ might keep it as a dead letter


class PresenceStep(bootsteps.StartStopStep):
    """The worker notes in the database that it is there, while it is connected to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, _consumer: Any, **_: Any) -> None:
        super().__init__(_consumer)
        self._presence: Presence | None = None
        self._timer: Any = None

    def start(self, worker: Any) -> None:
        """From now on."""
        self._presence = self._presence or Presence.of(worker.hostname)
        self._timer = worker.timer.call_repeatedly(SECONDS_BETWEEN_LOOKS, self._presence.note)

    def stop(self, worker: Any) -> None:
        """For as long as there is no connection, and at the end."""
        if self._timer is not None:
            worker.timer.cancel(self._timer)
            self._timer = None

    def shutdown(self, worker: Any) -> None:
        """At the end."""
        self.stop(worker)
        if self._presence is not None:
            self._presence.leave()


SECONDS_BETWEEN_LOOKS = 1
SECONDS_BEFORE_A_BROKER_THAT_REFUSES_IS_ASKED_AGAIN = 2
