"""A broker that is there and refuses: a fail-over, a disk that is full. The worker waits, and goes on; senders say so.

Seen to fail: with Celery's own retries the worker ended with "Unrecoverable error" within seconds. With kombu's own
transport, after any refusal of SQS's, it was there and received nothing any more. `flask retention run` said that its
chains had started and exited with 0, on SQS with a traceback; on a Valkey that hung it waited until that went on.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from app import config
from app.celery import configuration, nightly_tasks
from dev.broker import EmbeddedBroker
from dev.processes import Child
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.workers import Workers, eventually
from tests.brokers import SQS, broker, queue_names
from tests.factories import create_notification, create_service
from tests.fakes.blocking_rabbitmq import blocking_rabbitmq
from tests.fakes.fault_proxy import FaultProxy, fault_proxy
from tests.forkserver import command
from tests.unit.test_celery_configuration import SETTINGS as NEEDED

SECONDS = 30
RUN = ("flask", "--app", "app", "retention", "run")
Server = redis.Redis


@pytest.fixture(scope="module")
def workers(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    started = Workers(environment, tmp_path_factory.mktemp("refusing"))
    started.start(pool=1)
    yield started
    started.stop()


@contextmanager
def as_a_replica(server: Server, _directory: Path) -> Iterator[None]:
    server.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        server.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_replicas(server: Server, _directory: Path) -> Iterator[None]:
    server.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        server.config_set("min-replicas-to-write", 0)


@contextmanager
def out_of_memory(server: Server, _directory: Path) -> Iterator[None]:
    server.config_set("maxmemory", 1)
    try:
        yield
    finally:
        server.config_set("maxmemory", 0)


@contextmanager
def with_a_full_disk(server: Server, directory: Path) -> Iterator[None]:
    """It can't save: there is a directory where its snapshot belongs."""
    snapshot = directory / "dump.rdb"
    (snapshot / "occupied").mkdir(parents=True)
    server.config_set("save", "3600 1")
    try:
        _save(server, "err")
        yield
    finally:
        (snapshot / "occupied").rmdir()
        snapshot.rmdir()
        _save(server, "ok")
        server.config_set("save", "")


def _save(server: Server, ends: str) -> None:
    server.bgsave()

    def is_saved() -> bool:
        info = server.info("persistence")
        return not info["rdb_bgsave_in_progress"] and info["rdb_last_bgsave_status"] == ends

    eventually(is_saved, SECONDS)


def said(workers: Workers) -> list[str]:
    return [event["error"] for event in workers.events("broker-lost")]


REFUSALS = [
    (as_a_replica, "ReadOnlyError"),
    (without_replicas, "ResponseError NOREPLICAS"),
    (with_a_full_disk, "ResponseError MISCONF"),
    (out_of_memory, "OutOfMemoryError"),
]


@pytest.mark.parametrize(("refuse", "error"), REFUSALS)
def test_a_worker_outlives_a_broker_that_refuses_and_a_command_says_so(
    workers: Workers, connection: Connection, refuse, error
):
    create_notification(connection, create_service(connection, email=5))
    worker = workers._children[0]
    lost = len(workers.events("broker-lost"))
    with redis.Redis.from_url(workers.broker.url) as server, refuse(server, workers.broker.directory):
        if refuse is not out_of_memory:  # which still hands out what waits
            eventually(lambda: not worker.running or error in said(workers)[lost:], SECONDS)
            assert worker.running, worker.log_tail(3)
        ended = command(RUN, env=workers.environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "1 chains are open, but the broker takes no messages." in ended.stderr
    assert f'"error": "{error}"' in ended.stderr
    assert "Traceback" not in ended.stderr
    done = worker.log.read_text().count("succeeded")
    workers.send(nightly_tasks.dispatch_retention)
    eventually(lambda: not worker.running or worker.log.read_text().count("succeeded") > done, SECONDS)
    assert worker.running, worker.log_tail(3)


def test_who_sends_to_a_valkey_that_hangs_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("app.celery.SECONDS_TO_CONFIRM", 0.3)
    hung = EmbeddedBroker(tmp_path / "broker").start()
    sender = Celery("sender", set_as_current=False)
    settings = config.load({**NEEDED, "CELERY_BROKER_URL": hung.url})
    sender.conf.update(configuration(settings))
    os.kill(hung.process.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(OperationalError, match="Timeout"):
                sender.send_task("dispatch-retention", queue=settings.queue_periodic)
    finally:
        os.kill(hung.process.pid, signal.SIGCONT)
        hung.stop()


@pytest.mark.parametrize("says_so", [True, False])
def test_a_command_says_that_rabbitmq_takes_nothing(environment, connection, says_so):
    services = [create_service(connection, email=days) for days in (5, 6, 7)]  # each has a chain
    for service in services:
        create_notification(connection, service)
    with blocking_rabbitmq(says_so) as url:
        ended = command(RUN, env={**environment, "CELERY_BROKER_URL": url})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "3 chains are open, but the broker takes no messages." in ended.stderr
    assert ended.stderr.count("message-not-sent") == 1, "each would take as long as the first"
    assert "BrokerTakesNothing" in ended.stderr


# SQS ------------------------------------------------------------------------------------------------------------------


@dataclass
class OnSqs:
    """A worker on SQS, and what is between them."""

    workers: WorkersOn
    child: Child
    proxy: FaultProxy


@pytest.fixture(scope="module")
def on_sqs(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnSqs]:
    directory, queues = tmp_path_factory.mktemp("sqs"), queue_names("retention-test")
    with broker(SQS, directory, queues) as on, fault_proxy(on.environment["AWS_ENDPOINT_URL_SQS"]) as proxy:
        through = type(on)(on.name, on.url, {"AWS_ENDPOINT_URL_SQS": proxy.url})
        workers = WorkersOn(through, queues, environment, directory)
        try:
            yield OnSqs(workers, workers.start(pool=1), proxy)
        finally:
            workers.stop()


@pytest.mark.parametrize("status", [500, 503, 403, 400, None])
def test_a_worker_outlives_an_sqs_that_refuses(on_sqs: OnSqs, connection: Connection, status):
    """None: connections are cut."""
    on_sqs.proxy.refused = 0
    on_sqs.proxy.refuses_all = (status,)
    try:
        eventually(lambda: not on_sqs.child.running or on_sqs.proxy.refused > 3, SECONDS)
    finally:
        on_sqs.proxy.refuses_all = ()
    assert on_sqs.child.running, on_sqs.child.log_tail(3)
    done = on_sqs.child.log.read_text().count("succeeded")
    on_sqs.workers.send(nightly_tasks.dispatch_retention)
    eventually(lambda: not on_sqs.child.running or on_sqs.child.log.read_text().count("succeeded") > done, SECONDS)
    assert on_sqs.child.running, on_sqs.child.log_tail(3)


def test_a_command_says_that_sqs_refuses(on_sqs: OnSqs, connection: Connection):
    create_notification(connection, create_service(connection, email=5))
    on_sqs.proxy.refuses_all = (403,)
    try:
        ended = command(RUN, env=on_sqs.workers.environment)
    finally:
        on_sqs.proxy.refuses_all = ()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "1 chains are open, but the broker takes no messages." in ended.stderr
    assert "Traceback" not in ended.stderr
