"""The brokers that the pipeline is tested on: embedded ones always, real ones where TEST_* variables name them.

TEST_REDIS_URL names an *empty* database of a Redis, which is emptied afterwards; TEST_RABBITMQ_URL a virtual host of
a RabbitMQ, from which a test's own queues are removed. `.ci/run` names both.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import redis
from amqp.exceptions import NotFound
from kombu import Connection as Broker

from dev.broker import EmbeddedBroker
from dev.s3 import EmbeddedS3

VALKEY, REDIS, RABBITMQ, SQS = "valkey", "redis", "rabbitmq", "sqs"
URLS = {REDIS: os.environ.get("TEST_REDIS_URL", ""), RABBITMQ: os.environ.get("TEST_RABBITMQ_URL", "")}
NAMES = [VALKEY, SQS, *(name for name, url in URLS.items() if url)]
QUEUES = {"QUEUE_NIGHTLY": "nightly", "QUEUE_PERIODIC": "periodic", "QUEUE_ACCOUNTS": "accounts"}
"""All that a worker declares: one that a test did not name would stay on a RabbitMQ for ever."""
DELAYED_DELIVERY = "celery_delayed"
"""Celery declares these queues and exchanges as soon as there is a quorum queue."""
LEVELS = 28
DELAYED_DELIVERY_EXCHANGE = "celery_delayed_delivery"


def queue_names(beginning: str) -> list[str]:
    """Names of a test's own, in the order of QUEUES."""
    return [f"{beginning}-{uuid4().hex[:12]}-{what}" for what in QUEUES.values()]


class NotEmpty(RuntimeError):
    """TEST_REDIS_URL names a database with something in it, which the tests would delete."""


@dataclass(frozen=True)
class TestBroker:
    """A broker: its kind, its URL, and what else its clients' environment must have."""

    __test__ = False

    name: str
    url: str
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def broker(name: str, directory: Path, queues: list[str]) -> Iterator[TestBroker]:
    """The broker of this name, without any of these queues before and after."""
    if name == VALKEY:
        embedded = EmbeddedBroker(directory / "broker").start()
        try:
            yield TestBroker(name, embedded.url)
        finally:
            embedded.stop()
    elif name == SQS:
        moto = EmbeddedS3(directory / "sqs").start()
        try:
            yield TestBroker(name, "sqs://", {"AWS_ENDPOINT_URL_SQS": moto.url})
        finally:
            moto.stop(signal.SIGKILL)
    elif name == REDIS:
        with redis.Redis.from_url(URLS[name]) as client:
            if client.dbsize():
                raise NotEmpty("TEST_REDIS_URL names a database that is not empty; give an empty one")
            try:
                yield TestBroker(name, URLS[name])
            finally:
                client.flushdb()
    else:
        had_delayed_delivery = _is_there(URLS[name], f"{DELAYED_DELIVERY}_0")
        try:
            yield TestBroker(name, URLS[name])
        finally:
            made = [] if had_delayed_delivery else [f"{DELAYED_DELIVERY}_{level}" for level in range(LEVELS)]
            exchanges = [] if had_delayed_delivery else [DELAYED_DELIVERY_EXCHANGE]
            _remove(URLS[name], [*queues, *made], [*queues, *made, *exchanges])


def _is_there(url: str, queue: str) -> bool:
    with Broker(url) as connection, suppress(NotFound):
        connection.default_channel.queue_declare(queue, passive=True)
        return True
    return False


def _remove(url: str, queues: list[str], exchanges: list[str]) -> None:
    with Broker(url) as connection:
        for queue in queues:
            connection.default_channel.queue_delete(queue)
        for exchange in exchanges:
            connection.default_channel.exchange_delete(exchange)
