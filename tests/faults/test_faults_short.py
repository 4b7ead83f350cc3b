"""The short form: every fault once, with real processes. `make faults` runs the long one."""

import pytest

from tests.faults.catalogue import SHORT
from tests.faults.laboratory import Laboratory


@pytest.mark.parametrize(("seed", "name"), list(enumerate(SHORT)), ids=SHORT)
def test_nothing_is_lost_orphaned_or_stuck(lab: Laboratory, seed: int, name: str):
    outcome = lab.run([name], seed)
    assert outcome.findings.all == [], f"replay: {outcome.replay}\n{outcome.trace}"
