"""Fixtures of the tests of accounts."""

import pytest


@pytest.fixture
def settings_override() -> dict[str, str]:
    """A machine under load must not push small deletions out of their request."""
    return {"ACCOUNT_REQUEST_SECONDS": "60", "ACCOUNT_RETRY_SECONDS": "1"}
