"""What may go differently on another broker than the embedded Valkey. `make faults-short BROKER=redis` runs it all.

SQS is always there; Redis and RabbitMQ where TEST_REDIS_URL and TEST_RABBITMQ_URL name a server.
"""

import pytest

from tests.brokers import NAMES, VALKEY
from tests.faults.catalogue import IN_THE_SUITE, possible
from tests.faults.laboratory import Laboratory
from tests.variants import OWN

RUNS = [
    pytest.param((broker, OWN), seed, names, id=f"{broker}: {' + '.join(names)}")
    for broker in NAMES
    for seed, names in enumerate(IN_THE_SUITE)
    if broker != VALKEY and possible(names, broker) == names
]


@pytest.mark.parametrize(("lab", "seed", "names"), RUNS, indirect=["lab"])
def test_nothing_is_lost_orphaned_or_stuck(lab: Laboratory, seed: int, names: tuple[str, ...]):
    outcome = lab.run(names, seed)
    assert outcome.findings.all == [], f"replay: {outcome.replay}\n{outcome.trace}"
