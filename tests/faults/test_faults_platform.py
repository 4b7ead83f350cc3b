"""The laboratory on a database that a platform has, and that adopted the pipeline.

`make faults-short VARIANT=va-notify` does all of the short form there.
"""

import pytest

from tests.brokers import VALKEY
from tests.faults.catalogue import ON_ANOTHER_PLATFORM, SHORT
from tests.faults.laboratory import Laboratory

RUNS = [(SHORT.index(name), name) for name in ON_ANOTHER_PLATFORM]


@pytest.mark.parametrize("lab", [(VALKEY, "va-notify")], indirect=True, ids=["va-notify"])
@pytest.mark.parametrize(("seed", "name"), RUNS, ids=ON_ANOTHER_PLATFORM)
def test_nothing_is_lost_orphaned_or_stuck(lab: Laboratory, seed: int, name: str):
    outcome = lab.run([name], seed)
    assert outcome.findings.all == [], f"replay: {outcome.replay}\n{outcome.trace}"
