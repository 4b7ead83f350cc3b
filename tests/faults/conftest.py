"""A laboratory, on the broker and the variant that a test is parametrized with."""

from collections.abc import Iterator

import pytest

from tests.faults.laboratory import Laboratory, laboratory


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """One for all tests of a module with the same ones."""
    with laboratory(*request.param) as opened:
        yield opened
