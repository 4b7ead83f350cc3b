"""The transports of kombu, hardened against what others may put into our queues, and against a broker that takes none.

A message that breaks a transport's own rules would end the worker that takes it, go back to the queue, and end the
next. Here it is handed on as one without headers, which the worker refuses (app/celery/messages.py). `install` puts
them in the place of kombu's, for every connection of this process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from uuid import uuid4

from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, pyamqp

SECONDS_TO_CONFIRM = 10
"""For which a sender waits until RabbitMQ has confirmed its message."""

SEE_RUNBOOK = 'see docs/operations.md, "The broker refuses"'
SEE = 'It takes no messages meanwhile. See docs/operations.md, "The broker refuses".'

ALIASES = {
    "amqp": "app.broker.transports:Amqp",
    "amqps": "app.broker.transports:AmqpWithTls",
    "redis": "app.broker.redis:Transport",
    "rediss": "app.broker.redis:Transport",
    "sqs": "app.broker.sqs:Transport",
}
"""By name, so that a process imports the one that it uses: the others need packages that it may not have."""


def install() -> None:
    """Let every connection that this process makes from now on use these transports."""
    TRANSPORT_ALIASES.update(ALIASES)
    _transport_cache.clear()


class BrokerTakesNothing(OperationalError):
    """RabbitMQ is there and takes no messages. The message says why, and what to do."""


def readable(payload: object, queue: str) -> dict[str, Any]:
    """What a virtual transport may make a message of: the payload, or, where it breaks the rules, nothing of it.

    The delivery tag is under our own name of it in the broker until it is acknowledged, and the queue is where a
    message that is given back goes: neither is the sender's to choose.
    """
    given = payload if isinstance(payload, dict) else {}
    properties = given.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    headers = given.get("headers")
    is_readable = (
        isinstance(given.get("body"), str)
        and isinstance(headers, dict)
        and not headers.get("compression")  # it would be undone before anybody had looked at what comes out
        and properties.get("body_encoding") in (None, "base64")
    )
    return {
        "body": given["body"] if is_readable else "",
        "content-type": given.get("content-type"),
        "content-encoding": given.get("content-encoding"),
        "headers": headers if is_readable else {},
        "properties": {
            "body_encoding": properties.get("body_encoding") if is_readable else None,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid4()),
            "priority": 0,
        },
    }


CONTENT_HEADER = 2
"""The kind of frame that has a message's properties, after 12 bytes of class and length."""
PROPERTIES_AT = 12
NO_PROPERTIES = b"\0\0"


def frames(connection: Any, callback: Callable[..., Any]) -> Callable[[tuple[int, int, Any]], bool]:
    """As py-amqp's own handler of frames, but a message's properties that can't be read are none at all."""
    on_frame = frame_handler(connection, callback)

    def on_checked_frame(frame: tuple[int, int, Any]) -> bool:
        kind, channel, content = frame
        if kind == CONTENT_HEADER:
            try:
                decode_properties_basic(content, PROPERTIES_AT)
            except Exception:  # a decoder of what anybody may have written fails in any way
                content = bytes(content[:PROPERTIES_AT]) + NO_PROPERTIES
        return cast(bool, on_frame((kind, channel, content)))

    return on_checked_frame


class AmqpMessage(pyamqp.Message):
    """A message whose body nobody decompresses before it has been looked at."""

    def __init__(self, msg: Any, channel: Any = None, **kwargs: Any) -> None:
        headers = msg.properties.get("application_headers")
        if isinstance(headers, dict) and headers.get("compression"):
            msg.properties["application_headers"] = {}
        super().__init__(msg, channel=channel, **kwargs)


class AmqpChannel(pyamqp.Channel):
    """A channel that waits for a confirmation only so long."""

    Message = AmqpMessage

    def basic_publish_confirm(self, *args: Any, **kwargs: Any) -> Any:
        """Publish, and wait for the confirmation. Raises BrokerTakesNothing."""
        kwargs["confirm_timeout"] = kwargs.get("confirm_timeout") or SECONDS_TO_CONFIRM
        connection = self.connection
        try:
            with connection.publishing():
                return super().basic_publish_confirm(*args, **kwargs)
        except TimeoutError:
            connection.collect()
            raise BrokerTakesNothing(
                f"RabbitMQ has not confirmed a message within {kwargs['confirm_timeout']:g} s. {SEE}"
            ) from None
        except BrokerTakesNothing:
            connection.collect()  # a farewell would wait for an answer that does not come
            raise

    basic_publish = basic_publish_confirm


class AmqpConnection(pyamqp.Connection):
    """A connection that says so when RabbitMQ blocks it, as it does while it is short of memory or of disk."""

    Channel = AmqpChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_blocked = self._is_publishing = False
        super().__init__(*args, frame_handler=frames, **kwargs)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """While something is published, a block is an error; to whoever consumes it is nothing."""
        self._is_publishing = True
        try:
            with suppress(TimeoutError):  # nothing to read: nothing has changed
                self.drain_events(timeout=0)
            self._refuse_while_blocked()
            yield
        finally:
            self._is_publishing = False

    def _on_blocked(self) -> None:
        self._is_blocked = True
        if self._is_publishing:
            self._refuse_while_blocked()

    def _on_unblocked(self) -> None:
        self._is_blocked = False

    def _refuse_while_blocked(self) -> None:
        if self._is_blocked:
            raise BrokerTakesNothing(f"RabbitMQ is short of memory or of disk (connection.blocked). {SEE}")


class Amqp(pyamqp.Transport):
    """RabbitMQ."""

    Connection = AmqpConnection


class AmqpWithTls(pyamqp.SSLTransport):
    """RabbitMQ, through TLS."""

    Connection = AmqpConnection
