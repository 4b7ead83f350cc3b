"""Who is not the broker can't pass for it.

Seen to fail: with `rediss://` as Celery and kombu take it, which verifies nothing, every certificate was good enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from celery import Celery
from kombu.exceptions import OperationalError

from app import broker, config
from app.broker import BrokerAway
from app.celery import configuration
from app.doctor import work
from app.doctor.finding import Level
from dev.broker import EmbeddedBroker
from dev.processes import HOST
from tests.fakes.tls_server import tls_in_front_of

REFUSED = "SSLCertVerificationError"


@dataclass(frozen=True)
class Served:
    """A Valkey behind TLS: its ports by whose certificate it shows, and the file of each authority."""

    broker: EmbeddedBroker
    ports: dict[str, int]
    files: dict[str, str]

    def settings(self, environment: dict[str, str], shows: str, trusts: str | None, scheme: str) -> config.Settings:
        password = urlsplit(self.broker.url).password
        url = f"{scheme}://:{password}@{HOST}:{self.ports[shows]}/0"
        ca = {"BROKER_CA_FILE": self.files[trusts]} if trusts else {}
        return config.load({**environment, "CELERY_BROKER_URL": url, **ca})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("tls")
    authorities = {name: trustme.CA() for name in ("ours", "another")}
    files = {name: _kept(authority, directory / f"{name}.pem") for name, authority in authorities.items()}
    shown = {
        "ours": authorities["ours"].issue_cert(HOST),
        "another": authorities["another"].issue_cert(HOST),
        "of another host": authorities["ours"].issue_cert("somewhere.test"),
    }
    valkey = EmbeddedBroker(directory / "broker").start()
    try:
        with (
            tls_in_front_of(valkey.port, shown["ours"]) as ours,
            tls_in_front_of(valkey.port, shown["another"]) as another,
            tls_in_front_of(valkey.port, shown["of another host"]) as misnamed,
        ):
            ports = {"ours": ours, "another": another, "of another host": misnamed}
            yield Served(valkey, ports, files)
    finally:
        valkey.stop()


def _kept(authority: trustme.CA, path: Path) -> str:
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def send(settings: config.Settings) -> None:
    """A message, as beat, a worker or a shell sends it."""
    sender = Celery("sender", set_as_current=False)
    sender.conf.update(configuration(settings), broker_connection_timeout=2)
    with sender.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        sender.send_task("dispatch-retention", queue=settings.queue_periodic, connection=connection)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_broker_is_trusted_that_our_authority_has_signed_for(environment, served, scheme):
    settings = served.settings(environment, shows="ours", trusts="ours", scheme=scheme)
    before = broker.queue_depths(settings, 5)[settings.queue_periodic]
    send(settings)
    assert broker.queue_depths(settings, 5)[settings.queue_periodic] == before + 1
    assert {finding.level for finding in work.broker_answers(settings)} <= {Level.OK, Level.WARNING}


def test_so_is_one_that_speaks_amqp(environment, served):
    settings = served.settings(environment, shows="ours", trusts="ours", scheme="amqps")
    with pytest.raises(BrokerAway) as refused:  # there is a Valkey behind
        broker.ping(settings, 2)
    assert str(refused.value) != REFUSED


IMPOSTORS = [("another", "ours"), ("ours", "another"), ("of another host", "ours"), ("ours", None)]


@pytest.mark.parametrize(("shows", "trusts"), IMPOSTORS)
@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_nobody_else_is(environment, served, shows, trusts, scheme):
    settings = served.settings(environment, shows, trusts, scheme)
    with pytest.raises(BrokerAway) as refused:
        broker.ping(settings, 5)
    assert str(refused.value) == (REFUSED if scheme == "amqps" else "ConnectionError")
    with pytest.raises(OperationalError, match="certificate verify failed"):
        send(settings)
