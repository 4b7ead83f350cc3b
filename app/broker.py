"""The broker, for questions only: is it there, and how many messages wait. Messages are Celery's to send."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError
from kombu import Connection
from kombu.exceptions import ChannelError as ChannelRefused
from kombu.exceptions import KombuError

from app.config import Settings

LEAST_SECONDS_TO_CONNECT = 1
OTHERS = (KombuError, ClientError, OSError)
"""What a transport does not count among its own errors: an answer of SQS's that refuses, say."""


class BrokerAway(Exception):
    """The broker does not answer, or refuses us. The message is the kind of error and nothing else."""


def kind(settings: Settings) -> str:
    """redis, amqp or sqs, with TLS or without."""
    scheme = settings.celery_broker_url.partition("://")[0]
    return {"rediss": "redis", "amqps": "amqp"}.get(scheme, scheme)


def queue_depths(settings: Settings, seconds: float) -> dict[str, int]:
    """By queue, the messages that no worker has taken yet. Raises BrokerAway; waits so long for each answer."""
    with _connection(settings, seconds) as connection:
        return {queue: _depth(connection, queue) for queue in settings.queues}


def ping(settings: Settings, seconds: float) -> None:
    """Raise BrokerAway unless the broker takes a connection, and knows us."""
    with _connection(settings, seconds) as connection:
        _depth(connection, settings.queue_periodic)


def _depth(connection: Any, queue: str) -> int:
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors as error:
        if "NOT_FOUND" in str(error):
            return 0  # no worker has made it yet; on Redis a queue that is empty is not there
        raise
    finally:
        channel.close()


@contextmanager
def _connection(settings: Settings, seconds: float) -> Iterator[Any]:
    by_broker: dict[str, dict[str, Any]] = {
        "redis": {"socket_timeout": seconds, "socket_connect_timeout": seconds},
        "amqp": {"read_timeout": seconds, "write_timeout": seconds},
        "sqs": {
            "region": settings.aws_region,
            "is_secure": True,
            "client-config": {"connect_timeout": seconds, "read_timeout": seconds, "retries": {"max_attempts": 0}},
        },
    }
    connection = Connection(
        settings.celery_broker_url,
        connect_timeout=max(LEAST_SECONDS_TO_CONNECT, seconds),
        transport_options=by_broker[kind(settings)],
    )
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            yield connection
    except (*connection.connection_errors, *connection.channel_errors, ChannelRefused, *OTHERS) as error:
        raise BrokerAway(type(error).__name__) from None
