"""The databases of the four variants and our own, each adopted, with the least that was printed for the pipeline."""

from collections.abc import Iterator
from typing import Any

import pytest

from app import config, create_app
from tests.fakes.fault_proxy import FaultProxy, fault_proxy
from tests.promises.platforms import Platform
from tests.variants import ALL, PARTITIONED
from tests.variants.adopted import Adopted, adopted

SETTINGS = {"RETRY_AFTER_SECONDS": "1", "FAN_OUT_SPREAD_SECONDS": "0", "MISSING_FILES_SHARE": "0.9"}


# One of the platforms has a schema of our usual name already.
OF_VARIANT = {"us-notify": {"RETENTION_SCHEMA": "clean_up"}}


@pytest.fixture(scope="session", params=(*ALL, PARTITIONED))
def installed(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Adopted]:
    """An adopted database of each name."""
    with adopted(environment, request.param, **OF_VARIANT.get(request.param, {})) as found:
        yield found


@pytest.fixture
def proxy(environment: dict[str, str]) -> Iterator[FaultProxy]:
    """In front of S3, and counting what is asked of it."""
    with fault_proxy(environment["AWS_ENDPOINT_URL_S3"]) as running:
        yield running


@pytest.fixture
def platform(installed: Adopted, proxy: FaultProxy, s3: Any, granted_buckets: None) -> Iterator[Platform]:
    """The application on such a database, its context pushed; its tables are emptied again afterwards."""
    application = create_app(config.load({**installed.environment, **SETTINGS, "AWS_ENDPOINT_URL_S3": proxy.url}))
    with (
        installed.owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
        application.app_context(),
    ):
        found = Platform(installed, connection, s3, proxy)
        try:
            yield found
        finally:
            application.extensions["db.session"].remove()
            application.extensions["db.engine"].dispose()
            found.empty()
