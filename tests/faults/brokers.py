"""The laboratory's broker of a kind: found or started as for the other tests, behind a proxy where it is not ours."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from dev.broker import EmbeddedBroker
from dev.processes import HOST
from dev.stack import Stack
from tests import brokers
from tests.faults.broker import Broker, Outage
from tests.faults.broker_rabbitmq import RabbitMQ, Unacknowledged
from tests.faults.broker_redis import Redis
from tests.faults.broker_sqs import SQS
from tests.faults.tcp_proxy import TcpProxy, Watch

SQS_SERVER = "AWS_ENDPOINT_URL_SQS"
PORTS = {"redis": 6379, "amqp": 5672, "http": 80}


class NotNamed(RuntimeError):
    """No TEST_REDIS_URL or TEST_RABBITMQ_URL names a server of the kind."""


@contextmanager
def opened(kind: str, stack: Stack) -> Iterator[Broker]:
    """The broker, with queues of its own, which are gone again afterwards.

    Close it after the last worker has ended. Connections with TLS can't go through the proxy.
    """
    if kind not in brokers.NAMES:
        raise NotNamed(f"name a server: TEST_{kind.upper()}_URL is not set")
    queues = brokers.queue_names("retention-faults")
    if kind == brokers.VALKEY:
        with _opened(_valkey(stack.broker, queues), stack) as broker:
            yield broker
        return
    with (
        brokers.broker(kind, stack.directory, queues) as found,
        closing(proxy_to(found)) as proxy,
        _opened(_behind(proxy, found, queues), stack) as broker,
    ):
        yield broker


@contextmanager
def _opened(broker: Broker, stack: Stack) -> Iterator[Broker]:
    with closing(broker):
        broker.open(stack.environment)
        yield broker


def _valkey(server: EmbeddedBroker, queues: list[str]) -> Broker:
    """The embedded one, which is really restarted: its append-only file keeps what was queued."""

    def start() -> None:
        if not server.process.running:
            server.start()

    return Redis({"CELERY_BROKER_URL": server.url}, queues, Outage(server.stop, start), server.url)


def proxy_to(found: brokers.TestBroker) -> TcpProxy:
    """A way to the broker that can be cut."""
    address = urlsplit(_server(found))
    upstream = (address.hostname or HOST, address.port or PORTS[address.scheme])
    return TcpProxy(upstream, Unacknowledged if found.name == brokers.RABBITMQ else Watch)


def through(proxy: TcpProxy, found: brokers.TestBroker) -> brokers.TestBroker:
    """The same broker, by this way."""
    server = _server(found)
    netloc = urlsplit(server).netloc
    user, at, _ = netloc.rpartition("@")
    way = server.replace(netloc, f"{user}{at}{proxy.address}", 1)
    return replace(found, environment={SQS_SERVER: way}) if found.name == brokers.SQS else replace(found, url=way)


def _server(found: brokers.TestBroker) -> str:
    return found.environment.get(SQS_SERVER, found.url)


def _behind(proxy: TcpProxy, found: brokers.TestBroker, queues: list[str]) -> Broker:
    """A server that is not ours to end, or would forget everything: the proxy goes away in its place."""
    outage = Outage(lambda _: proxy.close(), proxy.open)
    server, way = _server(found), through(proxy, found)
    environment = {"CELERY_BROKER_URL": way.url, **way.environment}
    if found.name == brokers.SQS:
        return SQS(environment, queues, outage, server, proxy.address)
    if found.name == brokers.RABBITMQ:
        return RabbitMQ(environment, queues, outage, server, proxy)
    return Redis(environment, queues, outage, server)
