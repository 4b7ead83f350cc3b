"""The broker, for questions only: is it there, and how many messages wait. Messages are Celery's to send."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError
from kombu import Connection
from kombu.exceptions import ChannelError as ChannelRefused
from kombu.exceptions import KombuError

from app.broker import transports
from app.config import Settings

transports.install()

LEAST_SECONDS_TO_CONNECT = 1
CODE = re.compile(r"(?:^|caused error: )([A-Z]{3,}) ")
"""Of an error of Redis's: the first word of what it says."""
OTHERS = (KombuError, ClientError, OSError)
"""What a transport does not count among its own errors: an answer of SQS's that refuses, say."""


class BrokerAway(Exception):
    """The broker does not answer, or refuses us. The message is the kind of error and nothing else."""


def name_of(error: BaseException) -> str:
    """The kind of error that a broker answered with, and Redis's own code where that alone says what it is: MISCONF."""
    cause = error.__cause__ or error
    name = type(cause).__name__
    code = CODE.search(str(cause)) if name == "ResponseError" else None
    return f"{name} {code[1]}" if code else name


def kind(settings: Settings) -> str:
    """redis, amqp or sqs, with TLS or without."""
    scheme = settings.celery_broker_url.partition("://")[0]
    return {"rediss": "redis", "amqps": "amqp"}.get(scheme, scheme)


def tls(settings: Settings) -> dict[str, Any] | None:
    """How a connection verifies the broker: its certificate, and that it is of this host. None: there is no TLS."""
    by_scheme: dict[str, dict[str, Any]] = {
        "rediss": {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": settings.broker_ca_file,
        },
        # No name: that of the URL's host, of whichever node it is.
        "amqps": {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": settings.broker_ca_file},
    }
    return by_scheme.get(settings.celery_broker_url.partition("://")[0])


def queue_depths(settings: Settings, seconds: float) -> dict[str, int]:
    """By queue, the messages that no worker has taken yet. Raises BrokerAway; waits so long for each answer."""
    with _connection(settings, seconds) as connection:
        return {queue: _depth(connection, queue) for queue in settings.queues}


def takes_messages(settings: Settings, seconds: float) -> None:
    """Raise BrokerTakesNothing while RabbitMQ blocks whoever sends to it, and BrokerAway as the others do.

    The message is for a queue that there is not, and goes nowhere. A second is sent because RabbitMQ takes one from
    each connection before it blocks it.
    """
    if kind(settings) != "amqp":
        return
    with _connection(settings, seconds, confirm_publish=True) as connection:
        channel = connection.channel()
        for _ in range(2):
            message = channel.prepare_message(b"", headers={}, properties={})
            channel.basic_publish_confirm(message, "", f"nowhere-{uuid4()}", confirm_timeout=seconds)


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
def _connection(settings: Settings, seconds: float, **options: Any) -> Iterator[Any]:
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
        transport_options=by_broker[kind(settings)] | options,
        ssl=tls(settings) or False,
    )
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            yield connection
    except transports.BrokerTakesNothing:
        raise
    except (*connection.connection_errors, *connection.channel_errors, ChannelRefused, *OTHERS) as error:
        raise BrokerAway(name_of(error)) from None
