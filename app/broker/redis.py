"""Redis and Valkey: a list's item is whatever somebody pushed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis, virtual

from app.broker.transports import readable


class QoS(redis.QoS):
    """The messages that a worker holds. One that can't be acknowledged or rejected is held no longer.

    Kombu's own would count it for as long as the channel lasts (on SQS it does not). A worker that holds all it may
    asks for nothing more, and without a question that is open it never hears that the connection is gone.
    """

    def ack(self, delivery_tag: str) -> None:
        """Done. Where that fails, the message comes back when its visibility time-out is over."""
        with self._freeing(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Not done: put it back, or drop it. Where that fails, it comes back as above."""
        with self._freeing(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _freeing(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):
    """A channel that neither a message nor a lost connection can break."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError):  # no JSON. It has left its list, and nobody else gets it
            self.connection._deliver(None, next(iter(self._active_queues)))
            return True


class Transport(redis.Transport):
    """Redis, with TLS or without."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        super()._deliver(readable(message, queue), queue)
