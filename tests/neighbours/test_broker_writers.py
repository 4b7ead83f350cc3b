"""Whoever can write to the broker can't end a worker, hold it up, steer it, or have what they wrote repeated.

Seen to fail with Celery's own consumer, kombu's own transports and remote control: 21 of the first 80 messages ended
the worker, `shutdown` did, and `add_consumer` made it empty a stranger's queue. With Celery's own tasks among those
that are taken, `celery.accumulate` had the message's content logged; with nested arguments, one message was enough for
the worker to receive nothing any more.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import boto3
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kombu import Connection as Broker
from kombu import Exchange, Queue
from sqlalchemy import Connection, text

from app import config
from app.broker import queue_depths
from app.dao import totals_dao
from dev.processes import Child
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.workers import eventually
from tests.brokers import NAMES, RABBITMQ, SQS, TestBroker, broker, queue_names
from tests.neighbours import forged
from tests.neighbours.forged import SECRET, Message, Writer

REFUSED = text("SELECT label, amount FROM retention.totals WHERE counter = :counter")
FEW = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
SECONDS_TO_FINISH = 60


@dataclass
class Worker:
    """A worker of one process, on one queue, and whoever writes into that."""

    workers: WorkersOn
    child: Child
    writer: Writer
    on: TestBroker
    queue: str

    def finish(self) -> None:
        """Return when everything that was written before has been dealt with; the worker must have survived it."""
        last = Message(forged.headers())
        self.writer.write(last)
        done = f"[{last.headers['id']}] succeeded"
        eventually(lambda: not self.child.running or done in self.child.log.read_text(), SECONDS_TO_FINISH)
        assert self.child.running, self.child.log_tail(3)
        log = self.child.log.read_text()
        assert "Unrecoverable" not in log
        assert "broker-lost" not in log
        assert SECRET not in log


@pytest.fixture(scope="module", params=NAMES)
def worker(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    queues = queue_names("retention-test")
    directory = tmp_path_factory.mktemp("neighbours")
    with broker(request.param, directory, queues) as on:
        started = WorkersOn(on, queues, environment, directory)
        try:
            child = started.start(pool=1)
            yield Worker(started, child, Writer(on, queues[0]), on, queues[0])
            child.stop()
            left = queue_depths(config.load(started.environment), 5)
        finally:
            started.stop()
        assert left[queues[0]] == 0, "messages came back"


def refused(connection: Connection) -> Counter[str]:
    rows = connection.execute(REFUSED, {"counter": totals_dao.MESSAGES_REFUSED})
    return Counter({label: int(amount) for label, amount in rows})


def test_what_is_no_message_is_refused_and_counted_and_the_next_is_taken(worker, connection):
    spoilt = [*forged.SPOILT, *([] if worker.on.name == RABBITMQ else forged.SPOILT_ENVELOPES)]
    if worker.on.name == SQS:  # which takes a fifth of a second for each, and only so much text
        spoilt = [one for one in spoilt[::6] if len(one.wire("")) < 60_000]
    before = refused(connection)  # by a worker that has ended since the tables were emptied
    worker.writer.write(*spoilt)
    worker.finish()
    # Of this test, which is the first that the worker sees.
    said = [line["code"] for line in worker.workers.events("message-refused")]
    assert len(said) == len(spoilt)
    assert worker.on.name == SQS or said.count("too-late") == 2
    eventually(lambda: refused(connection) - before == Counter(said), SECONDS_TO_FINISH)


def test_properties_that_are_no_text_are_refused(worker, connection):
    if worker.on.name != RABBITMQ:
        pytest.skip("properties are a part of the JSON")
    for properties in forged.SPOILT_PROPERTIES:
        worker.writer.write_properties(**properties)
    worker.finish()
    eventually(lambda: refused(connection).total() == len(forged.SPOILT_PROPERTIES), SECONDS_TO_FINISH)


def test_what_is_not_ours_to_say_of_a_message_counts_for_nothing(worker, connection):
    if worker.on.name in (RABBITMQ, SQS):
        pytest.skip("the broker says it")
    worker.writer.write(*forged.ENVELOPES_OF_OTHERS)
    worker.finish()
    assert "Connection to broker lost" not in worker.child.log.read_text()


@given(written=st.lists(forged.messages(), min_size=10, max_size=30))
@FEW
def test_whatever_is_written_into_a_queue_the_worker_lives_and_repeats_nothing(worker, written):
    if worker.on.name == SQS:
        pytest.skip("too slow; it is Redis's way from the envelope on")
    worker.writer.write(*written)
    worker.finish()


def test_nobody_steers_a_worker(worker):
    stranger = f"retention-test-{uuid4().hex[:12]}-stranger"
    with Broker(worker.on.url) as connection:
        control = worker.workers.sender.control  # another's would send to the broker that is another's
        control.broadcast("add_consumer", arguments={"queue": stranger}, connection=connection)
        slowly = {"task_name": forged.TASK, "rate_limit": "1/h"}
        control.broadcast("rate_limit", arguments=slowly, connection=connection)
        control.broadcast("shutdown", connection=connection)
        if worker.on.name == SQS:  # where a command would need a queue of the worker's to arrive in
            worker.finish()
            names = [
                url.rpartition("/")[2]
                for url in boto3.client("sqs", region_name="eu-west-1").list_queues()["QueueUrls"]
            ]
            assert worker.queue in names
            assert [name for name in names if "pidbox" in name or name == stranger] == []
            return
        assert control.ping(timeout=0.5, connection=connection) == []
        queue = Queue(stranger, Exchange(stranger), stranger)(connection)
        queue.declare()
        try:
            connection.Producer().publish({}, exchange=stranger, routing_key=stranger)
            worker.finish()
            worker.finish()
            assert queue.get() is not None, "the worker has taken another's message"
        finally:
            queue.delete()
            Exchange(stranger)(connection).delete()
