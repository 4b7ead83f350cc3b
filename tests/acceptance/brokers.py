"""The brokers that the pipeline is tested on: embedded ones always, real ones where TEST_* variables name them.

TEST_REDIS_URL names an *empty* database of a Redis, which is emptied afterwards; TEST_RABBITMQ_URL a virtual host of
a RabbitMQ, from which a test's own queues are removed. `.ci/run` names both.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection as Broker

from app import config
from app.celery import configuration
from app.dao.chains_dao import Wake
from app.local.broker import EmbeddedBroker
from app.local.environment import replaced_environment
from app.local.processes import Child
from app.local.s3 import EmbeddedS3
from tests.acceptance.workers import SETTINGS, Workers

VALKEY, REDIS, RABBITMQ, SQS = "valkey", "redis", "rabbitmq", "sqs"
URLS = {REDIS: os.environ.get("TEST_REDIS_URL", ""), RABBITMQ: os.environ.get("TEST_RABBITMQ_URL", "")}
NAMES = [VALKEY, SQS, *(name for name, url in URLS.items() if url)]
QUEUES = ("QUEUE_NIGHTLY", "QUEUE_PERIODIC")
DELAYED_DELIVERY = "celery_delayed"
"""Celery declares these queues and exchanges as soon as there is a quorum queue."""
LEVELS = 28
DELAYED_DELIVERY_EXCHANGE = "celery_delayed_delivery"
STEP = "delete-notifications-for-service-and-type"


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


class WorkersOn(Workers):
    """Workers on such a broker, with queues of their own. `stop` ends them; the broker is its owner's to end."""

    def __init__(self, on: TestBroker, queues: list[str], environment: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.name = on.name
        self.environment = {
            **environment,
            **SETTINGS,
            **dict(zip(QUEUES, queues, strict=True)),
            **on.environment,
            "CELERY_BROKER_URL": on.url,
        }
        self._children: list[Child] = []
        self._stack = ExitStack()
        self._stack.enter_context(replaced_environment(self.environment))  # boto3 reads where SQS is from it
        self._sender = Celery("sender", set_as_current=False)
        self._sender.conf.update(configuration(config.load(self.environment)))

    def send(self, task: Any, *arguments: Any, **named: Any) -> None:
        self._send(task.name, arguments, named)

    def send_step(self, wake: Wake, task_id: str | None = None) -> str:
        """A chain's wake-up, as the pipeline sends it; its task id."""
        arguments = (str(wake.service_id), wake.notification_type, wake.cutoff.isoformat())
        task_id = task_id or str(uuid4())
        self._send(STEP, arguments, {"chain": wake.chain, "step": wake.step}, task_id=task_id)
        return task_id

    def _send(self, task: str, arguments: tuple[Any, ...], named: dict[str, Any], **options: Any) -> None:
        """On a connection of its own: kombu would give the next test this one's from its pool."""
        queue = self.environment["QUEUE_PERIODIC" if task == "dispatch-retention" else "QUEUE_NIGHTLY"]
        with self._sender.connection_for_write() as connection:
            self._sender.send_task(task, arguments, named, queue=queue, connection=connection, **options)

    def stop(self) -> None:
        for child in self._children:
            child.kill()
        self._sender.close()
        self._stack.close()


def has_received(worker: Child, task_id: str) -> bool:
    return f"[{task_id}] received" in worker.log.read_text()
