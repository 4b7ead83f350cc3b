"""A real RabbitMQ that is short of memory, and one behind TLS, where TEST_RABBITMQ_SERVER names the server.

Seen to fail: under the alarm `flask retention run` said that its chains had started; with `CERT_NONE` no connection was
made at all, because Python refuses that beside a check of the name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme

from app import broker, config
from app.broker import BrokerAway
from app.doctor import work
from app.doctor.finding import Level
from dev.processes import HOST
from tests.acceptance.brokers import WorkersOn
from tests.acceptance.workers import eventually
from tests.brokers import RABBITMQ, TestBroker, queue_names
from tests.factories import create_notification, create_service
from tests.forkserver import command
from tests.own_rabbitmq import SERVER, OwnRabbitMQ

pytestmark = pytest.mark.skipif(not SERVER, reason="TEST_RABBITMQ_SERVER names no rabbitmq-server")

RUN = ("flask", "--app", "app", "retention", "run")
SECONDS = 60


@dataclass(frozen=True)
class Served:
    """The node, and a file for each authority; the first has signed its certificate."""

    rabbitmq: OwnRabbitMQ
    files: dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("rabbitmq")
    authorities = {name: trustme.CA() for name in ("ours", "another")}
    files = {name: directory / f"{name}.pem" for name in authorities}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(str(files[name]))
    with OwnRabbitMQ(directory, authorities["ours"].issue_cert(HOST)).running() as rabbitmq:
        yield Served(rabbitmq, {name: str(file) for name, file in files.items()})


@pytest.fixture
def workers(served: Served, environment, tmp_path) -> Iterator[WorkersOn]:
    on = TestBroker(RABBITMQ, served.rabbitmq.url)
    started = WorkersOn(on, queue_names("retention-test"), environment, tmp_path)
    yield started
    started.stop()


def test_under_a_memory_alarm_beat_goes_on_commands_say_so_and_it_ends_with_the_alarm(served, workers, connection):
    worker, beat = workers.start(pool=1), workers.start_beat()
    eventually(lambda: "succeeded" in worker.log.read_text(), SECONDS)
    settings = config.load(workers.environment)
    with served.rabbitmq.short_of_memory():
        eventually(lambda: beat.log.read_text().count("short of memory") > 3, SECONDS)
        [found] = work.broker_answers(settings)
        assert (found.level, "short of memory" in found.says) == (Level.ERROR, True)
        create_notification(connection, create_service(connection, email=5))
        ended = command(RUN, env=workers.environment)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "1 chains are open, but the broker takes no messages." in ended.stderr
        assert beat.running
        assert worker.running
    done = worker.log.read_text().count("succeeded")
    eventually(lambda: worker.log.read_text().count("succeeded") > done + 3, SECONDS)
    assert work_is_done(connection)


def work_is_done(connection) -> bool:
    eventually(lambda: not connection.exec_driver_sql("SELECT count(*) FROM notifications").scalar(), SECONDS)
    return True


@pytest.mark.parametrize(
    ("trusts", "refused"),
    [("ours", None), ("another", "SSLCertVerificationError"), (None, "SSLCertVerificationError")],
)
def test_amqps_verifies_the_certificate(served, environment, trusts, refused):
    """And the name: tests/neighbours/test_tls.py."""
    url = f"amqps://guest:guest@{HOST}:{served.rabbitmq.tls_port}//"
    ca = {"BROKER_CA_FILE": served.files[trusts]} if trusts else {}
    settings = config.load({**environment, "CELERY_BROKER_URL": url, **ca})
    if refused is None:
        assert sum(broker.queue_depths(settings, 5).values()) == 0
        assert {finding.level for finding in work.broker_answers(settings)} == {Level.OK}
        return
    with pytest.raises(BrokerAway) as away:
        broker.ping(settings, 5)
    assert str(away.value) == refused
