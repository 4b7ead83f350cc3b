"""The role of deploy/postgres/ops_page.sql: logging in and out is possible under it, and needs all of it.

Where there are no accounts it is, too: the login is no member of their group here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from freezegun import freeze_time
from sqlalchemy import Connection, event, make_url

from app import clock
from tests.least import OPS_ROLE, OPS_ROLE_FILE
from tests.ops import Browser, ops_settings

LOGIN = "_login"
GRANT = re.compile(rf"^GRANT (.+) ON (.+) TO {OPS_ROLE};$", re.MULTILINE)
PRIVILEGES = [(what, on) for listed, on in GRANT.findall(OPS_ROLE_FILE.read_text()) for what in listed.split(", ")]


@pytest.fixture
def settings_override() -> dict[str, str]:
    return {**ops_settings(), "S3_BUCKET_ARCHIVE": "some", "ACCOUNTS_ENABLED": "false", "SESSIONS_ENABLED": "false"}


@pytest.fixture
def role(environment: dict[str, str]) -> str:
    """The page's group of the application's login."""
    return (make_url(environment["DATABASE_URL"]).username or "").removesuffix(LOGIN) + "_ops"


@pytest.fixture(autouse=True)
def no_accounts(connection: Connection, role: str) -> Iterator[None]:
    """The login is not a member of the accounts' group meanwhile."""
    name = role.removesuffix("_ops")
    connection.exec_driver_sql(f"REVOKE {name}_accounts FROM {name}{LOGIN}")
    yield
    connection.exec_driver_sql(f"GRANT {name}_accounts TO {name}{LOGIN}")


@pytest.fixture
def refusals(app: Flask) -> list[str]:
    """What PostgreSQL has refused the application."""
    seen: list[str] = []

    def note(context: Any) -> None:
        if getattr(context.original_exception, "pgcode", None) == "42501":
            seen.append(str(context.original_exception))

    event.listen(app.extensions["db.engine"], "handle_error", note)
    return seen


@contextmanager
def without(connection: Connection, role: str, what: str, on: str) -> Iterator[None]:
    connection.exec_driver_sql(f"REVOKE {what} ON {on} FROM {role}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"GRANT {what} ON {on} TO {role}")


def walk(app: Flask) -> None:
    """In and out, with a wrong password before, and a click some minutes later."""
    with freeze_time(clock.now(), ignore=["sqlalchemy"]) as time:
        browser = Browser(app)
        browser.log_in(password="wrong")
        assert browser.log_in().status_code == 303
        time.tick(timedelta(minutes=5))
        page = browser.get("/ops")
        assert page.status_code == 200
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        assert browser.post("/ops/logout", csrf_token=token).status_code == 303


def test_everything_that_the_page_needs_is_possible_under_the_role(app, refusals):
    walk(app)
    assert refusals == []
    assert len(PRIVILEGES) == 9


@pytest.mark.parametrize(("what", "on"), PRIVILEGES, ids=lambda value: value)
def test_each_privilege_is_needed(app, connection, role, refusals, what, on):
    with without(connection, role, what, on), suppress(Exception):
        walk(app)
    assert refusals != [], f"nothing needs {what} ON {on}"
