"""Fixtures of the integration tests."""

from collections.abc import Iterator

import pytest

from tests.fakes.fault_proxy import FaultProxy, fault_proxy


@pytest.fixture
def proxy(environment: dict[str, str]) -> Iterator[FaultProxy]:
    """A proxy in front of S3. A module's `settings_override` points its application at it."""
    with fault_proxy(environment["AWS_ENDPOINT_URL_S3"]) as running:
        yield running
