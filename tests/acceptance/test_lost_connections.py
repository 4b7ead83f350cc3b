"""A worker whose connection to the broker is lost while it works connects again, once, and takes the next message.

Seen to fail: on Valkey with kombu's own QoS, which goes on counting a message that could not be acknowledged as held:
the worker, whose one process it had kept busy, took no message any more. On RabbitMQ with acknowledgements that raise,
each step that outlived its connection ended the next one.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from app.celery import nightly_tasks
from app.retention import operations
from dev.processes import Child
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.test_workers import slow_steps
from tests.acceptance.workers import IN_THE_MIDDLE, eventually
from tests.brokers import NAMES, SQS, broker, queue_names
from tests.factories import create_notification, create_service, days_ago
from tests.faults.brokers import proxy_to, through
from tests.faults.tcp_proxy import TcpProxy

__all__ = ["slow_steps"]  # a fixture
SECONDS = 30
WITH_CONNECTIONS = [name for name in NAMES if name != SQS]


@pytest.fixture
def behind_proxy(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    connection: Connection,
    slow_steps: None,
    tmp_path: Path,
) -> Iterator[tuple[WorkersOn, TcpProxy]]:
    queues = queue_names("retention-test")
    with broker(request.param, tmp_path, queues) as on, closing(proxy_to(on)) as proxy:
        workers = WorkersOn(through(proxy, on), queues, environment, tmp_path)
        try:
            yield workers, proxy
        finally:
            workers.stop()


def keep_busy(connection: Connection, workers: WorkersOn, processes: int) -> None:
    """So many processes are in the middle of a step."""
    for _ in range(processes):
        service = create_service(connection, email=5)
        create_notification(connection, service, "email", days_ago(30))
        for wake in operations.run(["email"], service):  # a chain of its own: together they would share one
            workers.send_step(wake)
    eventually(lambda: connection.execute(IN_THE_MIDDLE).scalar() == processes, SECONDS)


def done(worker: Child) -> int:
    return worker.log.read_text().count("succeeded")


def takes_a_message(worker: Child, workers: WorkersOn) -> None:
    """One of several: on SQS a question that was cut off may still be given one, which then stays hidden."""
    before = done(worker)

    def has_taken_one() -> bool:
        workers.remind(nightly_tasks.dispatch_retention)
        return not worker.running or done(worker) > before

    eventually(has_taken_one, SECONDS)
    assert worker.running, worker.log_tail(3)


@pytest.mark.parametrize("behind_proxy", NAMES, indirect=True)
def test_a_worker_that_was_busy_while_the_broker_was_away_takes_messages_again(
    behind_proxy: tuple[WorkersOn, TcpProxy], connection: Connection
) -> None:
    workers, proxy = behind_proxy
    worker = workers.start(pool=1)
    keep_busy(connection, workers, 1)
    proxy.close()
    eventually(lambda: workers.events("broker-lost") and done(worker), SECONDS)
    proxy.open()
    takes_a_message(worker, workers)


@pytest.mark.parametrize("behind_proxy", WITH_CONNECTIONS, indirect=True)
def test_a_step_that_outlives_its_connection_does_not_end_the_next(
    behind_proxy: tuple[WorkersOn, TcpProxy], connection: Connection
) -> None:
    workers, proxy = behind_proxy
    worker = workers.start(pool=3)
    keep_busy(connection, workers, 2)
    proxy.cut()
    eventually(lambda: workers.events("broker-lost") and done(worker) >= 2, SECONDS)
    takes_a_message(worker, workers)
    assert worker.log.read_text().count("Connected to ") <= 2
