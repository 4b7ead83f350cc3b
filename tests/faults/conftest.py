"""One laboratory for all tests of this directory."""

from collections.abc import Iterator

import pytest

from tests.faults.laboratory import Laboratory, laboratory


@pytest.fixture(scope="session")
def lab() -> Iterator[Laboratory]:
    with laboratory() as opened:
        yield opened
