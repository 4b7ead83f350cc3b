"""The short form: every fault once, with real processes. `make faults` runs the long one."""

import pytest

from tests.brokers import VALKEY
from tests.faults.catalogue import SHORT, possible
from tests.faults.laboratory import Laboratory
from tests.variants import OWN

RUNS = [(seed, name) for seed, name in enumerate(SHORT) if possible((name,), VALKEY, OWN)]


@pytest.mark.parametrize("lab", [(VALKEY, OWN)], indirect=True, ids=[OWN])
@pytest.mark.parametrize(("seed", "name"), RUNS, ids=[name for _, name in RUNS])
def test_nothing_is_lost_orphaned_or_stuck(lab: Laboratory, seed: int, name: str):
    outcome = lab.run([name], seed)
    assert outcome.findings.all == [], f"replay: {outcome.replay}\n{outcome.trace}"
