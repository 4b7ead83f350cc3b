"""Messages as the laboratory sends, counts, doubles, loses and delays them; a module for each kind of broker."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from celery import Celery
from kombu.exceptions import OperationalError

from app import config
from app.celery import configuration
from tests.brokers import QUEUES

NIGHTLY = "delete-notifications-older-than-retention"
DISPATCH = "dispatch-retention"
DISPATCH_EXPIRES_SECONDS = 1.0
VISIBILITY_TIMEOUT_SECONDS = 4
"""Shorter than a task may take, which the product's settings refuse: it is one of the faults."""
SECONDS_TO_CONNECT = 2


@dataclass(frozen=True)
class Outage:
    """How a broker goes away: every connection ends and none is taken, until it comes back with what it had."""

    begin: Callable[[signal.Signals], object]
    """A server of the laboratory's own is ended by the signal."""
    end: Callable[[], object]
    """Twice does no harm."""


class Broker(ABC):
    """A broker with queues of the laboratory's own. What fails because it is away is not done.

    `environment` is what workers need to work on it. Messages are sent as the product sends them, and the way that
    the workers' go: while the broker is away, nobody can.
    """

    pace: ClassVar[float] = 1
    """How many times as long a night takes as on the quickest, so that faults are to come so much later."""
    sender_options: ClassVar[Mapping[str, Any]] = {}
    """Of the transport, beside the product's: a sender gives up early where workers would try again."""

    def __init__(
        self, environment: Mapping[str, str], queues: Sequence[str], outage: Outage, url: str | None = None
    ) -> None:
        """`url` is the sender's, where it is not that of the workers, CELERY_BROKER_URL of the environment."""
        self._outage = outage
        self.nightly, self.periodic, self.accounts = self.queues = tuple(queues)
        self.environment = dict(environment) | dict(zip(QUEUES, queues, strict=True))
        # Named for each connection: Celery lets CELERY_BROKER_URL of this process win over a setting.
        self._url = url or self.environment["CELERY_BROKER_URL"]
        self._celery = Celery("laboratory", set_as_current=False)

    def open(self, environment: Mapping[str, str]) -> None:
        """`environment` has the product's other settings."""
        self._celery.conf.update(configuration(config.load({**environment, **self.environment})))
        self._celery.conf.broker_transport_options |= self.sender_options
        self._celery.conf.broker_connection_timeout = SECONDS_TO_CONNECT

    def send(
        self, task: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> bool:
        """Whether the message was taken."""
        connection = self._celery.connection_for_write(self._url)
        try:
            with connection:
                self._celery.send_task(task, args, dict(kwargs or {}), connection=connection, retry=False, **options)
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors):
            return False
        return True

    def dispatch(self) -> None:
        """As beat does every minute: a message that is worthless when the next one comes."""
        self.send(DISPATCH, expires=DISPATCH_EXPIRES_SECONDS)

    def go_away(self, how: signal.Signals) -> None:
        self._outage.begin(how)

    def come_back(self) -> None:
        self._outage.end()

    def restart(self, how: signal.Signals) -> None:
        self.go_away(how)
        self.come_back()

    def close(self) -> None:
        self._celery.close()

    @abstractmethod
    def pending(self) -> int:
        """Messages that wait, or are with a worker."""

    @abstractmethod
    def purge(self) -> None:
        """No message waits, none is with a worker as far as the broker knows. There are no workers meanwhile."""

    @abstractmethod
    def double(self, most: int = 20) -> int:
        """Deliver a second time what waits or is with a worker: the same tasks, ids and all. How many."""

    @abstractmethod
    def put_back(self, messages: Sequence[Any]) -> None:
        """Messages that were taken away, for whoever comes next."""

    def take_away(self, most: int = 5) -> list[Any]:
        """Messages that wait, which nobody gets now. Not the one that starts the night, which nothing replaces."""
        taken = self._take(most)
        starting = [message for message in taken if self._task(message) == NIGHTLY]
        self.put_back(starting)
        return [message for message in taken if message not in starting]

    @abstractmethod
    def _take(self, most: int) -> list[Any]:
        """Messages of the nightly queue, which has them no more. None while the broker is away."""

    @abstractmethod
    def _task(self, message: Any) -> str:
        """The name of the task that it asks for."""
